//! What a workload cannot reach. Each wall is tried by a shell inside; the same trial must find the hole when a wall
//! was left out on purpose, for a trial that cannot fail shows nothing.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

use gregal_engine::{Availability, Engine, EngineError, Mount, Network, Protection, Reason, Trust, Workload};

use crate::support::{Bench, HELPER, eventually, log, workload, world_readable};

/// Tries every wall, and names those that gave way. `root` holds `secret`, `in` (read-only) and `out` (writable).
fn trial(helper: &Path, root: &Path, port: u16) -> String {
    let helper = helper.display();
    let secret = root.join("secret/key").display().to_string();
    let outside = root.join("secret/made").display().to_string();
    let engine = std::process::id();
    format!(
        r#"
        breach() {{ echo "BREACH $1"; }}
        {helper} connect 127.0.0.1:{port} && breach network
        cat {secret} > /dev/null && breach secret
        echo x > {outside} && breach write-outside
        head -c1 /etc/shadow > /dev/null && breach shadow
        ls /root/ > /dev/null && breach home
        [ -e /proc/{engine} ] && breach processes
        [ "$(ls -d /proc/[0-9]* | wc -l)" -gt 8 ] && breach processes
        echo x > /in/made && breach read-only-mount
        echo x > /usr/made && breach system
        chmod 444 /proc/meminfo && breach machine-modes
        chmod 666 /dev/null && breach device-modes
        echo x > /dev/null && echo x 1<> /dev/null && ! echo x > /dev/full || breach devices-that-work
        cat /proc/sys/kernel/core_pattern > /proc/sys/kernel/core_pattern && breach kernel-settings
        unshare -U true && breach user-namespace
        mkdir -p /tmp/m; mount -t tmpfs none /tmp/m && breach mount
        cp /bin/true /out/lend && chmod u+s /out/lend && breach set-user-id
        [ -e /dev/kmsg ] || [ -e /dev/mem ] || [ -e /dev/sda ] || [ -e /dev/vda ] || [ -e /dev/nvidia0 ] && breach devices
        grep -q 'NoNewPrivs:.1' /proc/self/status || breach new-privileges
        grep -q 'CapEff:.0000000000000000' /proc/self/status || breach capabilities
        echo tried
        "#
    )
}

/// The holes that a trial found.
fn breaches(log: &str) -> Vec<String> {
    assert!(log.lines().any(|line| line == "tried"), "the trial did not come to its end: {log}");
    log.lines().filter_map(|line| line.strip_prefix("BREACH ")).map(str::to_owned).collect()
}

fn rooms(bench: &Bench) -> TcpListener {
    for name in ["secret", "in", "out"] {
        bench.folder(name);
    }
    fs::write(bench.path("secret/key"), "s3cret").unwrap();
    TcpListener::bind("127.0.0.1:0").unwrap()
}

fn tried(bench: &Bench, name: &str, listener: &TcpListener) -> Workload {
    let port = listener.local_addr().unwrap().port();
    let mut workload = bench.shell(name, &trial(HELPER.as_ref(), bench.dir.path(), port));
    workload.mounts = vec![Mount::read_only(bench.path("in"), "/in"), Mount::writable(bench.path("out"), "/out")];
    workload
}

#[tokio::test(flavor = "multi_thread")]
async fn no_wall_gives_way() {
    let bench = Bench::new();
    let listener = rooms(&bench);
    let workload = tried(&bench, "trial", &listener);
    let seen = bench.run(&workload).await;
    assert_eq!(seen.exit().unwrap().reason, Reason::Finished, "{}", log(&workload));
    assert_eq!(breaches(&log(&workload)), [] as [&str; 0], "{}", log(&workload));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wall_left_out_on_purpose_is_found_by_the_same_trial() {
    let bench = Bench::new();
    let listener = rooms(&bench);
    let mut open = tried(&bench, "open-network", &listener);
    open.network = Network::Host;
    bench.run(&open).await;
    assert_eq!(breaches(&log(&open)), ["network"]);

    let mut open = tried(&bench, "open-folder", &listener);
    open.mounts.push(Mount::writable(bench.path("secret"), bench.path("secret")));
    bench.run(&open).await;
    assert_eq!(breaches(&log(&open)), ["secret", "write-outside"]);

    let bench = Bench::with(|options| {
        options.without = [Protection::Processes, Protection::Landlock, Protection::Seccomp].into();
        options.allow_weaker = true;
    });
    let listener = rooms(&bench);
    let open = tried(&bench, "open-house", &listener);
    bench.run(&open).await;
    let found = breaches(&log(&open));
    for wall in ["network", "secret", "write-outside", "processes"] {
        assert!(found.iter().any(|f| f == wall), "{wall} was left out and not found: {found:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ordinary_user_s_engine_has_the_same_walls() {
    let dir = tempfile::tempdir().unwrap();
    world_readable(dir.path());
    let root = dir.path().join("own");
    for name in ["secret", "in", "out"] {
        fs::create_dir_all(root.join(name)).unwrap();
    }
    fs::write(root.join("secret/key"), "s3cret").unwrap();
    let helper = dir.path().join("helper");
    fs::copy(HELPER, &helper).unwrap();
    let mut command = Command::new(&helper);
    if nix::unistd::Uid::effective().is_root() {
        // Somebody without any right of the machine's administrator.
        for path in ["", "secret", "secret/key", "in", "out"] {
            std::os::unix::fs::chown(root.join(path), Some(65_534), Some(65_534)).unwrap();
        }
        command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(&helper);
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let script = trial(&helper, &root, listener.local_addr().unwrap().port());
    let mut workload = workload("ordinary", &["/bin/sh", "-c", &script], &root.join("log"));
    workload.mounts = vec![Mount::read_only(root.join("in"), "/in"), Mount::writable(root.join("out"), "/out")];
    let output =
        command.arg("run").arg(root.join("state")).arg(serde_json::to_string(&workload).unwrap()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let log = fs::read_to_string(root.join("log")).unwrap();
    assert_eq!(breaches(&log), [] as [&str; 0], "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_environment_and_the_input_are_empty_but_for_what_was_given() {
    let bench = Bench::new();
    let mut workload = bench.shell("env", "env | sort; cat; pwd");
    workload.env.insert("GIVEN".to_owned(), "yes".to_owned());
    bench.run(&workload).await;
    let log = log(&workload);
    let names: Vec<&str> = log.lines().filter_map(|line| line.split_once('=').map(|(name, _)| name)).collect();
    // The shell itself adds PWD and the like.
    let own = ["PWD", "OLDPWD", "SHLVL", "_"];
    let names: Vec<&str> = names.into_iter().filter(|name| !own.contains(name)).collect();
    assert_eq!(names, ["GIVEN", "HOME", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "PATH", "TMPDIR"], "{log}");
    assert_eq!(log.lines().last(), Some("/tmp"));
}

#[test]
fn files_that_the_engine_s_own_parent_left_open_do_not_reach_a_workload() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let script = "for fd in /proc/self/fd/*; do echo open ${fd##*/}; done; cat <&9 && echo reached";
    let workload = workload("closed", &["/bin/sh", "-c", script], &log);
    fs::write(dir.path().join("secret"), "s3cret\n").unwrap();
    let inherit = r#"exec 9<"$1/secret" && cat <&9 && exec 9<"$1/secret" && exec "$2" run "$1/state" "$3""#;
    let ran = Command::new("/bin/sh")
        .args(["-c", inherit, "sh"])
        .args([dir.path().as_os_str(), HELPER.as_ref(), serde_json::to_string(&workload).unwrap().as_ref()])
        .output()
        .unwrap();
    assert!(ran.status.success() && ran.stdout.starts_with(b"s3cret\n"), "{ran:?}");
    let said = fs::read_to_string(log).unwrap();
    let open: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("open ")).collect();
    assert!(open.starts_with(&["0", "1", "2"]) && !said.contains("s3cret"), "{said}");
    assert!(!open.contains(&"9"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_the_operator_shows_is_read_and_run_from_at_its_own_place_and_never_written() {
    let dir = tempfile::tempdir().unwrap();
    let (real, link, beside) = (dir.path().join("real"), dir.path().join("link"), dir.path().join("beside"));
    for folder in [&real, &beside] {
        fs::create_dir(folder).unwrap();
        fs::copy("/bin/sh", folder.join("sh")).unwrap();
    }
    std::os::unix::fs::symlink(&real, &link).unwrap();
    // A link that a folder around it shows already, to what is shown after that folder.
    let around = dir.path().join("around");
    fs::create_dir(&around).unwrap();
    std::os::unix::fs::symlink("../real", around.join("inner")).unwrap();
    let inner = around.join("inner");
    let bench = Bench::with(|options| options.visible = vec![link.clone(), inner.clone(), around]);
    let script = |folder: &Path| {
        format!("cd {} && ./sh -c 'echo ran' && ls && {{ echo x > made; rm sh; chmod 700 sh; }}", folder.display())
    };
    for (name, folder) in [("link", &link), ("real", &real), ("inner", &inner)] {
        let workload = bench.shell(name, &script(folder));
        bench.run(&workload).await;
        assert!(log(&workload).starts_with("ran\nsh\n"), "{}", log(&workload));
    }
    assert!(real.join("sh").exists() && !real.join("made").exists());
    let workload = bench.shell("beside", &script(&beside));
    bench.run(&workload).await;
    assert!(!log(&workload).contains("ran"), "{}", log(&workload));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unix_socket_in_a_writable_folder_is_reached_from_outside() {
    let bench = Bench::new();
    let out = bench.folder("out");
    let mut workload = bench.workload("serve", &[HELPER, "listen", "/out/socket"]);
    workload.mounts = vec![Mount::writable(&out, "/out")];
    bench.engine.start(workload.clone()).await.unwrap();
    let socket = out.join("socket");
    // The file is there a moment before it listens.
    let connected = std::cell::RefCell::new(None);
    eventually("the workload listens", || {
        *connected.borrow_mut() = UnixStream::connect(&socket).ok();
        connected.borrow().is_some()
    });
    let mut stream = connected.into_inner().unwrap();
    stream.write_all(b"ping").unwrap();
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"ping");
    bench.until(&workload.id, |seen| seen.exit().is_some()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_writes_in_its_folder_stays_and_what_it_writes_elsewhere_is_gone() {
    let bench = Bench::new();
    let out = bench.folder("out");
    let mut workload = bench.shell("write", "echo kept > /out/kept && echo gone > /tmp/gone && cat /tmp/gone");
    workload.mounts = vec![Mount::writable(&out, "/out")];
    let seen = bench.run(&workload).await;
    assert_eq!(seen.exit().unwrap().code, Some(0), "{}", log(&workload));
    assert_eq!(fs::read_to_string(out.join("kept")).unwrap(), "kept\n");
    assert!(!Path::new("/tmp/gone").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_s_code_is_refused_where_a_wall_is_missing_and_runs_where_the_operator_accepts_it() {
    let missing = [Protection::Seccomp];
    let bench = Bench::with(|options| options.without = missing.into());
    let told = bench.engine.capabilities().await.unwrap();
    assert!(
        matches!(&told.protections[&Protection::Seccomp], Availability::Missing { why } if why.contains("operator"))
    );
    let mut workload = bench.shell("job", "true");
    let refusal = bench.engine.start(workload.clone()).await.unwrap_err();
    assert!(matches!(&refusal, EngineError::Refused { why, .. } if why.contains("Seccomp")), "{refusal}");
    assert!(bench.engine.list().await.unwrap().is_empty(), "a refusal leaves nothing");
    workload.trust = Trust::Trusted;
    assert_eq!(bench.run(&workload).await.exit().unwrap().reason, Reason::Finished);

    let bench = Bench::with(|options| {
        options.without = missing.into();
        options.allow_weaker = true;
    });
    assert_eq!(bench.run(&bench.shell("job", "true")).await.exit().unwrap().reason, Reason::Finished);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_namespaces_landlock_and_seccomp_still_hide_files_and_network() {
    let bench = Bench::with(|options| {
        options.without = [Protection::Processes].into();
        options.allow_weaker = true;
    });
    let listener = rooms(&bench);
    let port = listener.local_addr().unwrap().port();
    let secret = bench.path("secret/key");
    let script = format!(
        "{HELPER} connect 127.0.0.1:{port} && echo BREACH network; cat {} > /dev/null && echo BREACH secret; \
         cat \"$1\" > \"$2\" && echo copied; echo tried",
        secret.display()
    );
    fs::write(bench.path("in/data"), "data").unwrap();
    let mut workload = bench.workload("weak", &["/bin/sh", "-c", &script, "sh", "/in/data", "/out/copy"]);
    workload.mounts = vec![Mount::read_only(bench.path("in"), "/in"), Mount::writable(bench.path("out"), "/out")];
    bench.run(&workload).await;
    let log = log(&workload);
    assert_eq!(breaches(&log), [] as [&str; 0], "{log}");
    assert_eq!(fs::read_to_string(bench.path("out/copy")).unwrap(), "data", "paths are told as they really are: {log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_of_its_own_owns_what_it_writes() {
    if !nix::unistd::Uid::effective().is_root() {
        // Only the administrator can give a workload another user; elsewhere the engine says that it cannot.
        let bench = Bench::with(|options| options.run_as = Some((65_533, 65_533)));
        let told = bench.engine.capabilities().await.unwrap();
        assert!(!told.protections[&Protection::OwnUser].is_available());
        return;
    }
    let bench = Bench::with(|options| options.run_as = Some((65_533, 65_533)));
    let told = bench.engine.capabilities().await.unwrap();
    assert_eq!(told.missing_for_untrusted(), []);
    assert!(told.protections[&Protection::OwnUser].is_available(), "{told:?}");
    let out = bench.folder("out");
    std::os::unix::fs::chown(&out, Some(65_533), Some(65_533)).unwrap();
    let mut workload = bench.shell("own", "id -u; echo x > /out/file");
    workload.mounts = vec![Mount::writable(&out, "/out")];
    let seen = bench.run(&workload).await;
    assert_eq!(seen.exit().unwrap().reason, Reason::Finished, "{:?} {}", seen, log(&workload));
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&fs::metadata(out.join("file")).unwrap()), 65_533);
    assert_eq!(log(&workload).trim(), "1000", "it does not see who it is outside");
}
