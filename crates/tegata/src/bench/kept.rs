//! What a run keeps, by name: known before it begins, so that nothing that others have kept is written over.

use std::path::Path;

use crate::cli::bench::{Bench, BenchServer, BenchWhat};
use crate::fault::{Fault, Outcome};
use crate::files;

/// What the files of such a run are called, without their ends.
#[must_use]
pub fn stem(args: &Bench) -> &'static str {
    match (args.what, args.server()) {
        (BenchWhat::Issue, _) if args.database.is_some() => "issue-database",
        (BenchWhat::Issue, _) if args.tls => "issue-tls",
        (BenchWhat::Issue, _) => "issue",
        (BenchWhat::Ocsp, _) => "ocsp",
        (BenchWhat::Renew, _) => "renew",
        (BenchWhat::Appraise, _) => "appraise",
        (BenchWhat::Deliver, _) => "deliver",
        (BenchWhat::Overload, BenchServer::Ca) => "overload",
        (BenchWhat::Overload, BenchServer::Tam) => "overload-tam",
        (BenchWhat::Overload, BenchServer::Verifier) => "overload-verifier",
        (BenchWhat::Overload, BenchServer::Est) => "overload-est",
    }
}

/// What they are called.
fn names(args: &Bench) -> Vec<String> {
    let stem = stem(args);
    let ends: &[&str] = match args.what {
        BenchWhat::Overload => &["json"],
        BenchWhat::Issue if stem == "issue" => &["json", "md", "svg"],
        _ => &["json", "md"],
    };
    ends.iter().map(|end| format!("{stem}.{end}")).collect()
}

/// Whether results can be kept where the command line says, before hours are spent on them.
///
/// # Errors
/// There are some of an earlier run; nothing can be written there.
pub fn check(args: &Bench) -> Outcome<()> {
    let out: &Path = &args.out;
    files::make_dir(out)?;
    let there = names(args).into_iter().map(|name| out.join(name));
    let there: Vec<String> = there
        .filter(|path| path.symlink_metadata().is_ok())
        .map(|path| path.display().to_string())
        .collect();
    if !there.is_empty() {
        return Err(Fault::usage(
            "results-exist",
            format!("there are results of an earlier run: {}", there.join(", ")),
            "Give another --out, or remove them; nothing is overwritten.",
        ));
    }
    let access = rustix::fs::access(out, rustix::fs::Access::WRITE_OK);
    access.map_err(|e| Fault::io("write into", out, &e.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        bench: Bench,
    }

    #[test]
    fn no_two_benches_keep_the_same_file_and_none_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().to_str().unwrap();
        let mut kept = Vec::new();
        for line in [
            "issue",
            "issue --tls",
            "issue --database x",
            "ocsp",
            "renew",
            "appraise",
            "deliver",
            "overload",
            "overload --server tam",
            "overload --server verifier",
            "overload --server est",
        ] {
            let words = ["bench"]
                .into_iter()
                .chain(line.split(' '))
                .chain(["--out", out]);
            let args = Line::try_parse_from(words).unwrap().bench;
            check(&args).unwrap();
            for name in names(&args) {
                let path = dir.path().join(&name);
                std::fs::write(&path, "").unwrap();
                let fault = check(&args).unwrap_err();
                assert_eq!(fault.code, "results-exist", "{line}");
                assert!(fault.what.contains(&name), "{fault:?}");
                std::fs::remove_file(&path).unwrap();
                kept.push(name);
            }
            // What another bench kept is in nobody's way.
            std::fs::write(dir.path().join(stem(&args)), "").unwrap();
        }
        let all = kept.len();
        kept.sort();
        kept.dedup();
        assert_eq!((kept.len(), all), (all, 19));
    }
}
