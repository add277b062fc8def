//! Landlock: which files, ports and processes a process can reach.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, LandlockStatus, NetPort,
    PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetStatus, Scope,
};

/// What stays allowed; nothing by default.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Directories that may be read and changed.
    pub write: Vec<PathBuf>,
    /// Single files that may be read and written.
    pub device: Vec<PathBuf>,
    /// Files that may be read.
    pub read: Vec<PathBuf>,
    /// Files that may be read and run.
    pub execute: Vec<PathBuf>,
    /// TCP ports that may be connected to.
    pub connect: Vec<u16>,
}

impl Rules {
    /// The files of this very program, so that it can start itself anew.
    ///
    /// # Errors
    /// If `/proc` does not answer.
    pub fn program() -> std::io::Result<Self> {
        let maps = std::fs::read_to_string("/proc/self/maps")?;
        let mut execute: Vec<PathBuf> = maps
            .lines()
            .filter_map(|line| line.splitn(6, ' ').nth(5))
            .map(str::trim)
            .filter(|path| path.starts_with('/'))
            .map(PathBuf::from)
            .collect();
        // Stays right if the file is replaced by a newer version meanwhile.
        execute.push(PathBuf::from("/proc/self/exe"));
        execute.sort();
        execute.dedup();
        Ok(Self {
            write: Vec::new(),
            device: vec![PathBuf::from("/dev/null")],
            read: vec![PathBuf::from("/etc/ld.so.cache")],
            execute,
            connect: Vec::new(),
        })
    }
}

/// Confines the calling thread and all it starts. Returns the names of what this kernel lacks.
pub(super) fn restrict(rules: &Rules) -> Vec<&'static str> {
    // The newest first; each older kernel lacks what is named here.
    let ladder: [(ABI, &[&'static str]); 5] = [
        (ABI::V6, &[]),
        (ABI::V5, &["landlock-scope"]),
        (ABI::V4, &["landlock-scope", "landlock-ioctl"]),
        (
            ABI::V3,
            &["landlock-scope", "landlock-ioctl", "landlock-net"],
        ),
        (
            ABI::V1,
            &[
                "landlock-scope",
                "landlock-ioctl",
                "landlock-net",
                "landlock-truncate",
            ],
        ),
    ];
    for (abi, missing) in ladder {
        if apply(abi, rules).is_some() {
            return missing.to_vec();
        }
    }
    vec!["landlock"]
}

fn apply(abi: ABI, rules: &Rules) -> Option<()> {
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(abi))
        .ok()?;
    if abi >= ABI::V4 {
        ruleset = ruleset.handle_access(AccessNet::from_all(abi)).ok()?;
    }
    if abi >= ABI::V6 {
        ruleset = ruleset.scope(Scope::from_all(abi)).ok()?;
    }
    let mut created = ruleset.create().ok()?;
    let read = BitFlags::from(AccessFs::ReadFile);
    let change = AccessFs::ReadFile
        | AccessFs::ReadDir
        | AccessFs::WriteFile
        | AccessFs::RemoveFile
        | AccessFs::MakeReg;
    // Truncate exists from ABI 3 on; renaming within one directory needs no Refer.
    let change = if abi >= ABI::V3 {
        change | AccessFs::Truncate
    } else {
        change
    };
    for (paths, access) in [
        (&rules.write, change),
        (&rules.device, read | AccessFs::WriteFile),
        (&rules.read, read),
        (&rules.execute, read | AccessFs::Execute),
    ] {
        for path in paths {
            // What is not there needs no permission.
            if let Some(rule) = rule(path, access) {
                created = created.add_rule(rule).ok()?;
            }
        }
    }
    if abi >= ABI::V4 {
        for port in &rules.connect {
            created = created
                .add_rule(NetPort::new(*port, AccessNet::ConnectTcp))
                .ok()?;
        }
    }
    let status = created.restrict_self().ok()?;
    let enforced = matches!(status.landlock, LandlockStatus::Available { .. })
        && status.ruleset == RulesetStatus::FullyEnforced
        && status.no_new_privs;
    enforced.then_some(())
}

fn rule(path: &Path, access: BitFlags<AccessFs>) -> Option<PathBeneath<PathFd>> {
    Some(PathBeneath::new(PathFd::new(path).ok()?, access))
}
