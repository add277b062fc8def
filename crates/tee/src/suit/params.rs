//! Parameters of components while an update runs, and who may set which.

use alloc::collections::BTreeMap;

use tegata_wire::suit::Parameters;

use super::component::TaComponent;
use super::error::SuitError;

/// Whether a parameter that is set already is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// `suit-directive-set-parameters`: only what is not yet set.
    Set,
    /// `suit-directive-override-parameters`: in any case.
    Override,
}

/// The parameters of all TA components of an update.
///
/// Releases share one table: a release sees what the TAM told it about where its payload is and
/// how it is encrypted, and nothing else of the TAM. What a TAM sets for its own conditions stays
/// in a table of its own, so that it cannot stand in for what a release sets "unless set".
// Spec: draft-ietf-suit-trust-domains, "hierarchical-interpreters":
// > The second Manifest Processor MAY also control which Parameters may be set by the first
// > Manifest Processor by means of an ACL that lists the allowed Parameters.
#[derive(Default)]
pub(super) struct ParameterTable {
    release: BTreeMap<TaComponent, Parameters>,
    tam: BTreeMap<TaComponent, Parameters>,
}

impl ParameterTable {
    /// What a manifest of a release key sees.
    pub fn of_release(&self, component: &TaComponent) -> Parameters {
        self.release.get(component).cloned().unwrap_or_default()
    }

    /// What a TAM's manifest sees.
    pub fn of_tam(&self, component: &TaComponent) -> Parameters {
        let mut all = self.tam.get(component).cloned().unwrap_or_default();
        all.set_if_absent(&self.of_release(component));
        all
    }

    /// A release sets parameters of its own component.
    pub fn set_by_release(&mut self, component: TaComponent, new: &Parameters, mode: Mode) {
        merge(self.release.entry(component).or_default(), new, mode);
    }

    /// A TAM sets parameters of a component that is not its own.
    ///
    /// # Errors
    /// [`SuitError::ParameterUnauthorised`] for whatever decides what is installed.
    pub fn set_by_tam(
        &mut self,
        component: TaComponent,
        new: &Parameters,
        mode: Mode,
    ) -> Result<(), SuitError> {
        let forbidden = [
            (LABEL_IMAGE_DIGEST, new.image_digest.is_some()),
            (LABEL_IMAGE_SIZE, new.image_size.is_some()),
            (LABEL_CONTENT, new.content.is_some()),
            (LABEL_SOURCE, new.source_component.is_some()),
        ];
        if let Some((label, _)) = forbidden.into_iter().find(|(_, set)| *set) {
            return Err(SuitError::ParameterUnauthorised { label, component });
        }
        merge(self.tam.entry(component).or_default(), new, mode);
        let passed_on = Parameters {
            uri: new.uri.clone(),
            encryption_info: new.encryption_info.clone(),
            ..Parameters::default()
        };
        merge(self.release.entry(component).or_default(), &passed_on, mode);
        Ok(())
    }
}

/// Refuses parameters that no command of this TEE reads.
///
/// # Errors
/// [`SuitError::ParameterUnsupported`].
pub(super) fn check_supported(new: &Parameters) -> Result<(), SuitError> {
    let unsupported = [
        (LABEL_INVOKE_ARGS, new.invoke_args.is_some()),
        (LABEL_FETCH_ARGS, new.fetch_args.is_some()),
    ];
    if let Some((label, _)) = unsupported.into_iter().find(|(_, set)| *set) {
        return Err(SuitError::ParameterUnsupported { label });
    }
    match new.other.first() {
        Some((label, _)) => Err(SuitError::ParameterUnsupported { label: *label }),
        None => Ok(()),
    }
}

pub(super) fn merge(old: &mut Parameters, new: &Parameters, mode: Mode) {
    match mode {
        Mode::Set => old.set_if_absent(new),
        Mode::Override => old.override_with(new),
    }
}

pub(super) const LABEL_IMAGE_DIGEST: i64 = 3;
pub(super) const LABEL_IMAGE_SIZE: i64 = 14;
pub(super) const LABEL_CONTENT: i64 = 18;
pub(super) const LABEL_URI: i64 = 21;
pub(super) const LABEL_SOURCE: i64 = 22;
const LABEL_INVOKE_ARGS: i64 = 23;
const LABEL_FETCH_ARGS: i64 = 25;
