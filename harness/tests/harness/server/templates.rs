//! The template of a private server's data: where it is kept, what becomes of a broken one, and that
//! containers may share it.

use std::env;
use std::fs::{self, File, Permissions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::PathBuf;
use std::process::Command;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel_locks_harness::TempPostgres;
use serial_test::parallel;

use crate::support::directory::Directory;
use crate::support::second_process::{SecondProcess, second_process, this_test};
use crate::support::server::is_root;

/// Starts a server and uses it.
fn use_server() {
    let server = TempPostgres::start().unwrap();
    PgConnection::establish(server.url())
        .unwrap()
        .batch_execute("CREATE TABLE t ()")
        .unwrap();
}

/// A directory that Cargo seems to have made, with this program in it, and one for its caches and
/// one for its temporary files.
struct Build {
    root: Directory,
}

impl Build {
    fn new(name: &str) -> Self {
        let root = Directory::new(name);
        for directory in ["target", "cache", "tmp"] {
            fs::create_dir(root.0.join(directory)).unwrap();
        }
        let build = Self { root };
        build.allow("tmp", 0o1777);
        fs::write(build.path("target/CACHEDIR.TAG"), "").unwrap();
        let program = build.path("target/program");
        let own = env::current_exe().unwrap();
        fs::hard_link(&own, &program)
            .or_else(|_| fs::copy(&own, &program).map(drop))
            .unwrap();
        build
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.0.join(name)
    }

    fn allow(&self, name: &str, mode: u32) {
        fs::set_permissions(self.path(name), Permissions::from_mode(mode)).unwrap();
    }

    fn run(&self, test: &str) {
        let program = Command::new(self.path("target/program"));
        SecondProcess::run(program, test, "", &self.environment()).succeeds();
    }

    fn environment(&self) -> [(&'static str, PathBuf); 2] {
        [
            ("TMPDIR", self.path("tmp")),
            ("XDG_CACHE_HOME", self.path("cache")),
        ]
    }

    /// The names of what is kept in a place for caches.
    fn kept(&self, name: &str) -> Vec<PathBuf> {
        let kept = fs::read_dir(self.path(name).join("diesel_locks"));
        kept.into_iter()
            .flatten()
            .map(|entry| entry.unwrap().path())
            .collect()
    }

    fn template(&self) -> PathBuf {
        let mut kept = self.kept("target");
        assert_eq!(kept.len(), 1, "{kept:?}");
        kept.remove(0)
    }
}

#[test]
#[parallel]
fn templates_are_kept_only_where_nobody_else_has_a_say() {
    if second_process().is_some() {
        return use_server();
    }
    let test = &this_test!();
    let build = Build::new("say");
    build.run(test);
    assert_eq!(
        (build.kept("target").len(), build.kept("cache").len()),
        (1, 0)
    );
    let first = build.template();

    // Others can write into it, or could replace it.
    let unsafe_target = |build: &Build| {
        build.run(test);
        assert_eq!(
            (build.kept("target").len(), build.kept("cache").len()),
            (0, 1)
        );
        fs::remove_dir_all(build.path("cache/diesel_locks")).unwrap();
    };
    fs::remove_file(first).unwrap();
    build.allow("target/diesel_locks", 0o777);
    unsafe_target(&build);
    build.allow("target", 0o777);
    unsafe_target(&build);
    build.allow("target", 0o1777);
    unsafe_target(&build);
    build.allow("target", 0o775);
    unsafe_target(&build);
    build.allow("target", 0o755);
    if is_root() {
        for theirs in ["target/diesel_locks", "target"] {
            chown(build.path(theirs), Some(65_533), None).unwrap();
            unsafe_target(&build);
        }
    } else {
        println!("skipped: only root can make a directory of another user");
    }
    // In neither, and it works nevertheless.
    build.allow("target", 0o777);
    build.allow("cache", 0o777);
    build.run(test);
    assert_eq!(
        (build.kept("target").len(), build.kept("cache").len()),
        (0, 0)
    );
    // Not in a place that is safe in itself, if what it is in is not.
    build.allow("target", 0o755);
    build.allow("cache", 0o755);
    build.root.allow(0o777);
    build.run(test);
    assert_eq!(
        (build.kept("target").len(), build.kept("cache").len()),
        (0, 0)
    );
}

#[test]
#[parallel]
fn a_template_that_is_broken_is_made_anew() {
    if second_process().is_some() {
        return use_server();
    }
    let test = &this_test!();
    let build = Build::new("broken");
    build.run(test);
    // A new file may have the number of one that is gone.
    let identity = || {
        let metadata = fs::symlink_metadata(build.template()).unwrap();
        (metadata.ino(), metadata.mtime(), metadata.mtime_nsec())
    };
    let template = build.template();
    let length = fs::metadata(&template).unwrap().len();
    let open = || File::options().write(true).open(&template).unwrap();
    let breaks: [(&str, &dyn Fn()); 6] = [
        ("empty", &|| open().set_len(0).unwrap()),
        ("cut off", &|| open().set_len(length / 2).unwrap()),
        ("changed", &|| {
            let mut template = open();
            template.seek(SeekFrom::Start(length / 2)).unwrap();
            template.write_all(b"something else").unwrap();
        }),
        ("a directory", &|| {
            fs::remove_file(&template).unwrap();
            fs::create_dir_all(template.join("data")).unwrap();
        }),
        ("a link", &|| {
            fs::rename(&template, build.path("elsewhere")).unwrap();
            symlink(build.path("elsewhere"), &template).unwrap();
        }),
        ("anybody's", &|| {
            fs::set_permissions(&template, Permissions::from_mode(0o666)).unwrap();
        }),
    ];
    for (what, make_broken) in breaks {
        make_broken();
        let before = identity();
        build.run(test);
        let made = identity();
        assert_ne!(made, before, "{what}");
        let metadata = fs::symlink_metadata(&template).unwrap();
        assert!(metadata.is_file(), "{what}");
        assert_eq!(metadata.mode() & 0o777, 0o600, "{what}");
        // This one is used as it is.
        build.run(test);
        assert_eq!(identity(), made, "{what}");
    }
}

#[test]
#[parallel]
fn an_unfinished_template_stays_as_long_as_somebody_makes_it() {
    if second_process().is_some() {
        return use_server();
    }
    let test = &this_test!();
    let build = Build::new("unfinished");
    build.run(test);
    let unfinished = build.path("target/diesel_locks/x.unfinished");
    let being_made = File::create(&unfinished).unwrap();
    being_made.lock().unwrap();
    build.run(test);
    assert!(unfinished.exists());
    drop(being_made);
    build.run(test);
    assert!(!unfinished.exists());
}

#[test]
#[parallel]
fn containers_that_share_directories_do_not_meet() {
    if second_process().is_some() {
        return use_server();
    }
    if !is_root() {
        return println!("skipped: only root can give processes the same number");
    }
    let test = &this_test!();
    let build = Build::new("containers");
    for round in 0..3 {
        let _ = fs::remove_dir_all(build.path("target/diesel_locks"));
        let containers: Vec<_> = (0..3)
            .map(|_| {
                let mut container = Command::new("unshare");
                container.args(["--pid", "--fork", "--mount-proc"]);
                // The shell stays, so that no test is a container's first process.
                container.args(["sh", "-c", "\"$0\" \"$@\"; exit $?"]);
                container.arg(build.path("target/program"));
                let mut environment = build.environment();
                // With a directory of its own, the counters are at the same number too.
                let own = Directory::new("container");
                own.allow(0o1777);
                if round > 0 {
                    environment[0].1 = own.0.clone();
                }
                (SecondProcess::run(container, test, "", &environment), own)
            })
            .collect();
        for (container, own) in containers {
            container.succeeds();
            assert_eq!(own.count(), 0);
        }
        // What was kept is sound.
        let (kept, made) = (build.template(), fs::metadata(build.template()).unwrap());
        build.run(test);
        assert_eq!(fs::metadata(kept).unwrap().ino(), made.ino());
    }
    assert_eq!(fs::read_dir(build.path("tmp")).unwrap().count(), 0);
}
