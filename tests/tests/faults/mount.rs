//! File systems of their own, in files: they can be cut off, filled and broken without harm to anything else.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// A mounted file system; it is unmounted and gone when this is dropped.
pub struct Mount {
    dir: TempDir,
    options: &'static str,
}

impl Mount {
    /// Makes and mounts one of so many MiB.
    pub fn new(kind: &str, options: &'static str, mib: u64) -> Self {
        assert_may_mount();
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("there is room");
        let mount = Self { dir, options };
        let image = File::create(mount.image()).expect("there is room");
        image.set_len(mib << 20).expect("a sparse file of any length can be made");
        std::fs::create_dir(mount.path()).expect("a new directory");
        let make = format!("mkfs.{kind}");
        let quiet = if kind == "xfs" { ["-q", "-f"] } else { ["-q", "-F"] };
        run(Command::new(make).args(quiet).arg(mount.image()));
        mount.mount();
        mount
    }

    fn image(&self) -> PathBuf {
        self.dir.path().join("image")
    }

    /// Where it is mounted.
    pub fn path(&self) -> PathBuf {
        self.dir.path().join("mounted")
    }

    /// Mounts it.
    pub fn mount(&self) {
        let options = format!("loop,{}", self.options);
        run(Command::new("mount").args(["-o", &options]).arg(self.image()).arg(self.path()));
    }

    /// Unmounts it; whoever uses it must have ended. The kernel lets go of the files on a dead process's ring a little
    /// after the process is gone, so a busy disk is tried again for a while.
    pub fn unmount(&self) {
        for _ in 0..100 {
            if Command::new("umount").arg(self.path()).output().is_ok_and(|output| output.status.success()) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        run(Command::new("umount").arg(self.path()));
    }

    /// An xfs loses at once what it hasn't written to its disk, and does nothing any more until it is mounted anew: a power
    /// cut, but for what a disk would lose of its cache.
    pub fn cut_power(&self) {
        run(Command::new("xfs_io").args(["-x", "-c", "shutdown"]).arg(self.path()));
    }

    /// An ext4 finds something wrong with itself and becomes read-only.
    pub fn break_ext4(&self) {
        let source = Command::new("findmnt").args(["-no", "SOURCE"]).arg(self.path()).output().expect("util-linux");
        let source = String::from_utf8_lossy(&source.stdout).trim().to_owned();
        let device = Path::new(&source).file_name().expect("a device").to_owned();
        let trigger = Path::new("/sys/fs/ext4").join(device).join("trigger_fs_error");
        std::fs::write(&trigger, "a test").unwrap_or_else(|error| panic!("can't write {}: {error}", trigger.display()));
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // A test that went well has done it already.
        let _ = Command::new("umount").arg("--lazy").arg(self.path()).output();
    }
}

/// Says exactly what is missing.
fn assert_may_mount() {
    let answers = |program: &str, args: &[&str]| {
        Command::new(program).args(args).output().is_ok_and(|output| output.status.success())
    };
    assert!(answers("sh", &["-c", "test \"$(id -u)\" = 0"]), "this test mounts file systems: run it as root");
    assert!(Path::new("/dev/loop-control").exists(), "this test needs loop devices: /dev/loop-control is missing");
    for (program, package) in
        [("mkfs.xfs", "xfsprogs"), ("xfs_io", "xfsprogs"), ("mkfs.ext4", "e2fsprogs"), ("mount", "mount")]
    {
        assert!(answers(program, &["-V"]), "this test needs {program}: apt-get install {package}");
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("can't run {command:?}: {error}"));
    assert!(output.status.success(), "{command:?} failed: {}", String::from_utf8_lossy(&output.stderr));
}
