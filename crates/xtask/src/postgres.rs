//! A PostgreSQL server of our own for the store's tests: a fresh cluster in a temporary folder, on a Unix socket and a
//! loopback port, gone when the leg ends.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result};

use crate::{
    install::{self, Install, Package},
    run,
};

/// A running server.
pub(crate) struct Server {
    bin: PathBuf,
    home: PathBuf,
    /// `postgres://` address of it.
    pub url: String,
}

impl Server {
    /// Makes and starts one.
    pub(crate) fn start(install: Install) -> Result<Self> {
        install::debian(
            &[
                Package { name: "postgresql", shows: "/usr/lib/postgresql/*/bin/initdb" },
                Package { name: "util-linux", shows: "runuser" },
            ],
            install,
        )?;
        let initdb = install::find("/usr/lib/postgresql/*/bin/initdb").context("initdb is not there")?;
        let bin = initdb.parent().context("initdb has no folder")?.to_owned();
        let home = std::env::temp_dir().join(format!("gregal-postgres-{}", std::process::id()));
        std::fs::create_dir_all(&home)?;
        run(Command::new("chown").arg("postgres").arg(&home))?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let server = Self { bin, home, url: format!("postgres://gregal@127.0.0.1:{port}/postgres") };
        let data = server.home.join("data");
        run(server.tool("initdb").args(["-U", "gregal", "-A", "trust", "-D"]).arg(&data).stdout(Stdio::null()))?;
        let options =
            format!("-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={}", server.home.display());
        run(server
            .tool("pg_ctl")
            .args(["start", "-w", "-D"])
            .arg(&data)
            .arg("-l")
            .arg(server.home.join("log"))
            .args(["-o", &options])
            .stdout(Stdio::null()))?;
        Ok(server)
    }

    /// A tool of PostgreSQL, run as the user it insists on.
    fn tool(&self, name: &str) -> Command {
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--"]).arg(Path::new(&self.bin).join(name)).current_dir("/");
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let stopped = run(self
            .tool("pg_ctl")
            .args(["stop", "-m", "immediate", "-D"])
            .arg(self.home.join("data"))
            .stdout(Stdio::null()));
        if let Err(error) = stopped {
            eprintln!("warning: {error:#}");
        }
        if let Err(error) = std::fs::remove_dir_all(&self.home) {
            eprintln!("warning: could not remove `{}`: {error}", self.home.display());
        }
    }
}
