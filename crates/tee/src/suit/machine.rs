//! The manifest processor's abstract machine: runs the sections of a tree of manifests in lockstep.
//!
//! Invariants: every effect is in [`Machine::staging`]; each command, byte and signature is paid
//! for from a [`Budget`]; a dependency runs only after its signature and digest were checked.
//!
//! Spec: draft-ietf-suit-manifest section 6, draft-ietf-suit-trust-domains section 5.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;

use tegata_crypto::Secret;
use tegata_wire::suit::{
    Command, Condition, Directive, IndexArg, Parameters, RepPolicy, ReportRecord, Section, Sequence,
};

use super::component::TaComponent;
use super::error::{Location, SuitError};
use super::manifest::{AuthenticManifest, Authority};
use super::params::{Mode, ParameterTable, check_supported, merge};
use super::plan::check_floor;
use super::{Context, MAX_DEPTH, MAX_STEPS, MAX_TREE, MAX_WORK_BYTES};
use crate::platform::Platform;

/// Why a sequence stopped.
pub(super) enum Stop {
    /// A condition does not hold; a try-each may go on.
    Condition(SuitError),
    /// Nothing goes on.
    Abort(SuitError),
    /// A payload must be fetched first; nothing has changed.
    NeedPayload {
        /// Where it is.
        uri: String,
        /// Most bytes it may have.
        max_bytes: usize,
    },
}

impl From<SuitError> for Stop {
    fn from(error: SuitError) -> Self {
        Self::Abort(error)
    }
}

/// A component as this update leaves it.
pub(super) struct Staged {
    pub bytes: Secret<Vec<u8>>,
    /// Whether it was compared with its signer's digest since it was written.
    pub checked: bool,
}

/// A manifest in the tree, with the state of its dependencies.
pub(super) struct Node {
    pub authentic: Rc<AuthenticManifest>,
    /// Indices from the root down.
    pub path: Vec<u64>,
    parent: Option<usize>,
    dependencies: BTreeMap<u64, DependencyState>,
    /// Sections that ran.
    done: BTreeSet<Section>,
}

#[derive(Default)]
struct DependencyState {
    parameters: Parameters,
    envelope: Option<Vec<u8>>,
    /// Set by dependency-integrity, cleared by another fetch.
    node: Option<usize>,
}

/// What is left to spend.
struct Budget {
    steps: usize,
    work_bytes: usize,
}

/// One running sequence.
#[derive(Clone)]
struct Frame {
    node: usize,
    section: Section,
    indices: Option<Vec<u64>>,
    /// Soft failure; `None` outside try-each and run-sequence.
    soft: Option<bool>,
}

/// The machine.
pub(super) struct Machine<'c, 'p, P: Platform + ?Sized> {
    pub ctx: &'c Context<'p, P>,
    pub nodes: Vec<Node>,
    pub staging: BTreeMap<TaComponent, Staged>,
    pub unlinked: BTreeSet<TaComponent>,
    pub records: Vec<ReportRecord>,
    pub at: Location,
    pub(super) parameters: ParameterTable,
    budget: Budget,
}

impl<'c, 'p, P: Platform + ?Sized> Machine<'c, 'p, P> {
    /// A machine with this root manifest.
    pub fn new(ctx: &'c Context<'p, P>, root: AuthenticManifest) -> Self {
        let mut machine = Self {
            ctx,
            nodes: Vec::new(),
            staging: BTreeMap::new(),
            unlinked: BTreeSet::new(),
            records: Vec::new(),
            at: Location::default(),
            parameters: ParameterTable::default(),
            budget: Budget {
                steps: MAX_STEPS,
                work_bytes: MAX_WORK_BYTES,
            },
        };
        machine.add_node(root, Vec::new(), None);
        machine
    }

    /// Runs the given sections of the root manifest, each with its shared sequence before it.
    pub fn run(&mut self, sections: &[Section]) -> Result<(), Stop> {
        for section in sections {
            self.run_section(ROOT, *section)?;
        }
        self.check_nothing_skipped(sections)?;
        Ok(())
    }

    /// Whether the root manifest has any of these sections.
    pub fn root_has(&self, sections: &[Section]) -> bool {
        let root = self.nodes.first();
        root.is_some_and(|root| {
            sections
                .iter()
                .any(|section| root.authentic.manifest.sections.contains_key(section))
        })
    }

    fn add_node(&mut self, manifest: AuthenticManifest, path: Vec<u64>, parent: Option<usize>) {
        let keys = manifest.manifest.common.dependencies.keys();
        let dependencies = keys
            .map(|index| (*index, DependencyState::default()))
            .collect();
        self.nodes.push(Node {
            authentic: Rc::new(manifest),
            path,
            parent,
            dependencies,
            done: BTreeSet::new(),
        });
    }

    fn node(&self, node: usize) -> Result<&Node, SuitError> {
        self.nodes
            .get(node)
            .ok_or(SuitError::BadIndex { index: None })
    }

    fn manifest(&self, node: usize) -> Result<Rc<AuthenticManifest>, SuitError> {
        Ok(Rc::clone(&self.node(node)?.authentic))
    }

    fn run_section(&mut self, node: usize, section: Section) -> Result<(), Stop> {
        let authentic = self.manifest(node)?;
        let manifest = &authentic.manifest;
        let Some(member) = manifest.sections.get(&section) else {
            // Checks of a dependency run also where the dependent forgot to ask for them.
            return match section {
                Section::Validate => self.validate_dependencies(node),
                _ => Ok(()),
            };
        };
        let sequence = member.here().ok_or(SuitError::Severed { section })?;
        let indices = authentic.indices();
        // With one component alone no index need be set.
        let indices = (indices.len() == 1).then_some(indices);
        let frame = Frame {
            node,
            section,
            indices,
            soft: None,
        };
        if let Some(shared) = &manifest.common.shared {
            self.run_sequence(&mut frame.clone(), shared)?;
        }
        self.run_sequence(&mut frame.clone(), sequence)?;
        if let Some(node) = self.nodes.get_mut(node) {
            node.done.insert(section);
        }
        Ok(())
    }

    fn validate_dependencies(&mut self, node: usize) -> Result<(), Stop> {
        let children: Vec<usize> = self
            .node(node)?
            .dependencies
            .values()
            .filter_map(|state| state.node)
            .collect();
        children
            .into_iter()
            .try_for_each(|child| self.run_section(child, Section::Validate))
    }

    // Spec: draft-ietf-suit-trust-domains, "required-checks":
    // > At the end of each section in the dependent: The corresponding section in each Dependency
    // > has been executed, if present.
    fn check_nothing_skipped(&self, sections: &[Section]) -> Result<(), SuitError> {
        for node in &self.nodes {
            for (index, state) in &node.dependencies {
                let child = state.node.and_then(|child| self.nodes.get(child));
                let Some(child) = child else {
                    return Err(SuitError::DependencyUnchecked { index: *index });
                };
                let manifest = &child.authentic.manifest;
                let left_out = sections.iter().find(|section| {
                    manifest.sections.contains_key(section) && !child.done.contains(section)
                });
                if let Some(section) = left_out {
                    return Err(SuitError::DependencySkipped {
                        index: *index,
                        section: *section,
                    });
                }
            }
        }
        Ok(())
    }

    fn run_sequence(&mut self, frame: &mut Frame, sequence: &Sequence) -> Result<(), Stop> {
        for (position, command) in sequence.commands().iter().enumerate() {
            self.spend_step()?;
            self.locate(frame, sequence.offset(position))?;
            self.run_command(frame, command, sequence.offset(position))?;
        }
        Ok(())
    }

    fn locate(&mut self, frame: &Frame, offset: u64) -> Result<(), SuitError> {
        self.at = Location {
            manifest: self.node(frame.node)?.path.clone(),
            section: frame.section.label(),
            offset,
            component: frame
                .indices
                .as_ref()
                .and_then(|i| i.first())
                .copied()
                .unwrap_or(0),
        };
        Ok(())
    }

    fn run_command(
        &mut self,
        frame: &mut Frame,
        command: &Command,
        offset: u64,
    ) -> Result<(), Stop> {
        match command {
            Command::SetComponentIndex(argument) => {
                frame.indices = Some(self.resolve(frame.node, argument)?);
                Ok(())
            }
            Command::SetParameters(new) => self.set_all(frame, new, Mode::Set),
            Command::OverrideParameters(new) => self.set_all(frame, new, Mode::Override),
            Command::Condition(condition, policy) => {
                for index in current(frame)? {
                    self.at.component = index;
                    self.check(frame.node, index, *condition)?;
                    self.note_success(*policy);
                }
                Ok(())
            }
            Command::Directive(directive, policy) => {
                for index in current(frame)? {
                    self.spend_step()?;
                    self.at.component = index;
                    self.act(frame, index, *directive)?;
                    self.locate(frame, offset)?;
                    self.at.component = index;
                    self.note_success(*policy);
                }
                Ok(())
            }
            Command::TryEach {
                sequences,
                or_nothing,
            } => {
                for index in current(frame)? {
                    self.try_each(frame, index, sequences, *or_nothing)?;
                }
                Ok(())
            }
            Command::RunSequence(sequence) => {
                for index in current(frame)? {
                    let mut inner = nested(frame, index, false);
                    match self.run_sequence(&mut inner, sequence) {
                        Err(Stop::Condition(_)) if inner.soft == Some(true) => {}
                        other => other?,
                    }
                }
                Ok(())
            }
            Command::Unsupported { code, .. } => {
                Err(SuitError::CommandUnsupported { code: *code }.into())
            }
            // Commands that the codec learns later are refused until this match knows them.
            other => Err(SuitError::CommandUnsupported { code: other.code() }.into()),
        }
    }

    fn try_each(
        &mut self,
        frame: &Frame,
        index: u64,
        sequences: &[Sequence],
        or_nothing: bool,
    ) -> Result<(), Stop> {
        for sequence in sequences {
            let mut inner = nested(frame, index, true);
            match self.run_sequence(&mut inner, sequence) {
                Err(Stop::Condition(_)) if inner.soft == Some(true) => {}
                other => return other,
            }
        }
        if or_nothing {
            Ok(())
        } else {
            Err(Stop::Condition(SuitError::NoneSucceeded))
        }
    }

    fn resolve(&self, node: usize, argument: &IndexArg) -> Result<Vec<u64>, SuitError> {
        let all = self.node(node)?.authentic.indices();
        let wanted = match argument {
            IndexArg::One(index) => alloc::vec![*index],
            IndexArg::All => return Ok(all),
            IndexArg::Many(list) => list.clone(),
            _ => return Err(SuitError::BadIndex { index: None }),
        };
        match wanted.iter().find(|index| !all.contains(index)) {
            Some(index) => Err(SuitError::BadIndex {
                index: Some(*index),
            }),
            None => Ok(wanted),
        }
    }

    fn set_all(&mut self, frame: &mut Frame, new: &Parameters, mode: Mode) -> Result<(), Stop> {
        check_supported(new)?;
        if let Some(soft) = new.soft_failure {
            // Outside try-each and run-sequence there is nothing that it could soften.
            if frame.soft.is_none() {
                return Err(SuitError::ParameterUnsupported { label: 13 }.into());
            }
            frame.soft = Some(soft);
        }
        for index in current(frame)? {
            self.set_parameters(frame.node, index, new, mode)?;
        }
        Ok(())
    }

    fn set_parameters(
        &mut self,
        node: usize,
        index: u64,
        new: &Parameters,
        mode: Mode,
    ) -> Result<(), SuitError> {
        let authentic = self.manifest(node)?;
        if authentic.is_dependency(index) {
            let state = self.dependency(node, index)?;
            merge(&mut state.parameters, new, mode);
            return Ok(());
        }
        let component = self.component(&authentic, index)?;
        match authentic.authority {
            Authority::Tam => self.parameters.set_by_tam(component, new, mode),
            Authority::Release(_) => {
                self.parameters.set_by_release(component, new, mode);
                Ok(())
            }
        }
    }

    /// The parameters of `index` as this manifest sees them.
    pub(super) fn seen(&mut self, node: usize, index: u64) -> Result<Parameters, SuitError> {
        let authentic = self.manifest(node)?;
        if authentic.is_dependency(index) {
            return Ok(self.dependency(node, index)?.parameters.clone());
        }
        let component = self.component(&authentic, index)?;
        Ok(match authentic.authority {
            Authority::Tam => self.parameters.of_tam(&component),
            Authority::Release(_) => self.parameters.of_release(&component),
        })
    }

    fn component(
        &self,
        authentic: &AuthenticManifest,
        index: u64,
    ) -> Result<TaComponent, SuitError> {
        authentic
            .component(index)
            .ok_or(SuitError::BadIndex { index: Some(index) })
    }

    /// The component at `index`, if the signer may write and check it.
    pub(super) fn own_component(&self, node: usize, index: u64) -> Result<TaComponent, SuitError> {
        let authentic = self.manifest(node)?;
        let component = self.component(&authentic, index)?;
        if authentic.may_touch(&component) {
            Ok(component)
        } else {
            Err(SuitError::ComponentUnauthorised { component })
        }
    }

    fn dependency(&mut self, node: usize, index: u64) -> Result<&mut DependencyState, SuitError> {
        let node = self
            .nodes
            .get_mut(node)
            .ok_or(SuitError::BadIndex { index: None })?;
        node.dependencies
            .get_mut(&index)
            .ok_or(SuitError::BadIndex { index: Some(index) })
    }

    pub(super) fn is_dependency(&self, node: usize, index: u64) -> Result<bool, SuitError> {
        Ok(self.node(node)?.authentic.is_dependency(index))
    }

    /// The digest of a dependency's manifest, once its integrity was checked.
    pub(super) fn dependency_digest(
        &mut self,
        node: usize,
        index: u64,
    ) -> Result<tegata_wire::ids::Digest, SuitError> {
        let child = self.dependency(node, index)?.node;
        let child = child.ok_or(SuitError::DependencyUnchecked { index })?;
        Ok(self.node(child)?.authentic.digest)
    }

    fn act(&mut self, frame: &Frame, index: u64, directive: Directive) -> Result<(), Stop> {
        let code = directive.code();
        let node = frame.node;
        match directive {
            Directive::ProcessDependency => self.process_dependency(frame, index),
            Directive::Fetch if self.is_dependency(node, index)? => {
                let envelope = self.fetch_dependency(node, index)?;
                let state = self.dependency(node, index)?;
                state.envelope = Some(envelope);
                state.node = None;
                Ok(())
            }
            Directive::Fetch => self.fetch(node, index),
            Directive::Write => Ok(self.write(node, index)?),
            Directive::Copy => Ok(self.copy(node, index)?),
            Directive::Swap => Ok(self.swap(node, index)?),
            Directive::Unlink if frame.section == Section::Uninstall => {
                if !self.is_dependency(node, index)? {
                    let component = self.own_component(node, index)?;
                    self.unlinked.insert(component);
                }
                Ok(())
            }
            // The TEE starts TAs itself, and nothing is given up in the middle of an update.
            _ => Err(SuitError::CommandUnsupported { code }.into()),
        }
    }

    fn process_dependency(&mut self, frame: &Frame, index: u64) -> Result<(), Stop> {
        if !self.is_dependency(frame.node, index)? {
            return Err(SuitError::BadIndex { index: Some(index) }.into());
        }
        let child = self.dependency(frame.node, index)?.node;
        let child = child.ok_or(SuitError::DependencyUnchecked { index })?;
        self.run_section(child, frame.section)
    }

    /// Verifies a fetched dependency and makes it a node of the tree.
    // Spec: draft-ietf-suit-trust-domains, "suit-condition-dependency-integrity":
    // > Verify the signature of the Dependency's suit-authentication-wrapper.
    pub(super) fn dependency_integrity(&mut self, node: usize, index: u64) -> Result<(), Stop> {
        if !self.is_dependency(node, index)? {
            return Err(SuitError::BadIndex { index: Some(index) }.into());
        }
        let state = self.dependency(node, index)?;
        if state.node.is_some() {
            return Ok(());
        }
        let wanted = state.parameters.image_digest.clone();
        let wanted = wanted.ok_or(SuitError::ParameterMissing { label: 3 })?;
        let wanted = wanted.to_sha256().map_err(SuitError::Wire)?;
        let envelope = state.envelope.take();
        let envelope = envelope.ok_or(SuitError::NothingThere {
            directive: Directive::Fetch,
        })?;
        if self.nodes.len() >= MAX_TREE {
            return Err(SuitError::Budget {
                what: "manifests",
                max: MAX_TREE,
            }
            .into());
        }
        let mut path = self.node(node)?.path.clone();
        path.push(index);
        if path.len() > MAX_DEPTH {
            return Err(SuitError::Budget {
                what: "levels of dependencies",
                max: MAX_DEPTH,
            }
            .into());
        }
        self.spend_bytes(envelope.len())?;
        let child = AuthenticManifest::verify(self.ctx.provider, self.ctx.anchors, &envelope)?;
        if child.authority == Authority::Tam {
            return Err(SuitError::TamDependency.into());
        }
        if child.digest != wanted {
            let actual = Parameters {
                image_digest: Some(tegata_wire::suit::SuitDigest::sha256(child.digest)),
                ..Parameters::default()
            };
            let condition = Condition::DependencyIntegrity;
            return Err(SuitError::ConditionFailed {
                condition,
                actual: Box::new(actual),
            }
            .into());
        }
        check_floor(self.ctx, &child)?;
        let number = self.nodes.len();
        self.add_node(child, path, Some(node));
        self.dependency(node, index)?.node = Some(number);
        Ok(())
    }

    /// A payload by its URI: integrated in this manifest or one above it, or supplied.
    pub(super) fn payload(
        &mut self,
        node: usize,
        uri: &str,
        max_bytes: usize,
    ) -> Result<Vec<u8>, Stop> {
        let mut at = Some(node);
        let mut found = None;
        while let Some(number) = at {
            let node = self.node(number)?;
            if let Some(bytes) = node.authentic.integrated(uri) {
                found = Some(bytes.to_vec());
                break;
            }
            at = node.parent;
        }
        let bytes = match found.or_else(|| self.ctx.payloads.get(uri).cloned()) {
            Some(bytes) => bytes,
            None if uri.starts_with("https://") || uri.starts_with("http://") => {
                return Err(Stop::NeedPayload {
                    uri: String::from(uri),
                    max_bytes,
                });
            }
            None => {
                return Err(SuitError::PayloadMissing {
                    uri: String::from(uri),
                }
                .into());
            }
        };
        if bytes.len() > max_bytes {
            return Err(SuitError::TooLarge {
                got_bytes: bytes.len(),
                max_bytes,
            }
            .into());
        }
        self.spend_bytes(bytes.len())?;
        Ok(bytes)
    }

    fn note_success(&mut self, policy: RepPolicy) {
        if policy.record_success() && self.records.len() < MAX_SUCCESS_RECORDS {
            self.records
                .push(ReportRecord::Record(self.at.record(Parameters::default())));
        }
    }

    fn spend_step(&mut self) -> Result<(), SuitError> {
        let error = SuitError::Budget {
            what: "commands",
            max: MAX_STEPS,
        };
        self.budget.steps = self.budget.steps.checked_sub(1).ok_or(error)?;
        Ok(())
    }

    pub(super) fn spend_bytes(&mut self, bytes: usize) -> Result<(), SuitError> {
        let error = SuitError::Budget {
            what: "bytes of payload",
            max: MAX_WORK_BYTES,
        };
        self.budget.work_bytes = self.budget.work_bytes.checked_sub(bytes).ok_or(error)?;
        Ok(())
    }
}

fn current(frame: &Frame) -> Result<Vec<u64>, SuitError> {
    frame
        .indices
        .clone()
        .ok_or(SuitError::BadIndex { index: None })
}

fn nested(frame: &Frame, index: u64, soft: bool) -> Frame {
    Frame {
        indices: Some(alloc::vec![index]),
        soft: Some(soft),
        ..frame.clone()
    }
}

const ROOT: usize = 0;

/// Records of success in one report; the rest is left out.
const MAX_SUCCESS_RECORDS: usize = 64;
