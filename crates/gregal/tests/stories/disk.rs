//! A disk that is really full: a small file system of the test's own under the whole cloud. What does not fit is refused
//! with the right code, what was acknowledged stays, and with room again everything goes on.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use gregal_api::{
    audit::{AuditList, AuditQuery},
    client::Client,
    page::PAGE_LIMIT_MAX,
    problem::{Code, Problem},
};
use serde_json::{Value, json};

use crate::program::{Running, complaint, files, finish, free_ports, program};

/// Size of the file system, in MiB.
const DISK_MIB: usize = 32;
/// Projects made on a full disk until the store needs a page more than it has; each takes some kilobytes.
const PROJECTS_MAX: usize = 2_000;

#[test]
fn a_full_disk_refuses_what_does_not_fit_and_loses_nothing() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let disk = Disk::new();
    let mut cloud = Cloud::start(&disk);
    let mut story = runtime.block_on(Story::begin(&cloud));
    runtime.block_on(story.too_large_a_dataset_is_refused_and_leaves_nothing(&disk));

    let (writes, reads) = runtime.block_on(story.grants());
    disk.fill();
    runtime.block_on(story.a_full_disk_is_said_and_what_is_there_is_still_told(&writes, &reads));
    cloud.child.kill();
    let refused = finish(&mut disk.inside(&disk.up()));
    assert_eq!(refused.status.code(), Some(1), "a cloud came up without room for its files");
    assert!(complaint(&refused).contains("free some room"), "{}", complaint(&refused));
    disk.free();

    let mut cloud = Cloud::start(&disk);
    story.connect_again(&cloud);
    runtime.block_on(story.with_room_again_all_goes_on());
    runtime.block_on(story.everything_acknowledged_is_there());
    cloud.child.kill();
    let mut cloud = Cloud::start(&disk);
    story.connect_again(&cloud);
    runtime.block_on(story.everything_acknowledged_is_there());
    cloud.child.signal("TERM");
    assert_eq!(cloud.child.0.wait().unwrap().code(), Some(0));
}

/// A file system in memory, in namespaces of its own, so that nobody has to be root and nothing else gets full. It lives as
/// long as the process that holds it.
struct Disk {
    holder: Child,
    folder: tempfile::TempDir,
    ports: (u16, u16),
}

impl Disk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let script = r#"mount -t tmpfs -o "size=$2" tmpfs "$1" && echo mounted && exec cat"#;
        let mut holder = Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"])
            .arg(folder.path())
            .arg(format!("{DISK_MIB}m"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("`unshare` of util-linux makes the namespaces of this test");
        let mut said = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(
            said, "mounted\n",
            "no file system of its own: this test needs user namespaces, as the product's sandbox does (`sysctl user.max_user_namespaces`)"
        );
        Self { holder, folder, ports: free_ports() }
    }

    /// The data folder, as this process reaches it.
    fn seen(&self) -> PathBuf {
        Path::new("/proc")
            .join(self.holder.id().to_string())
            .join("root")
            .join(self.folder.path().strip_prefix("/").unwrap())
    }

    /// Arguments that start a cloud on it, each time at the same addresses.
    fn up(&self) -> Vec<String> {
        let (folder, (control, site)) = (self.folder.path().to_str().unwrap(), self.ports);
        let (control, site) = (format!("127.0.0.1:{control}"), format!("127.0.0.1:{site}"));
        ["up", "--data-dir", folder, "--control-listen", &control, "--site-listen", &site].map(str::to_owned).to_vec()
    }

    /// A command that sees the file system.
    fn inside(&self, arguments: &[String]) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--user", "--mount", "--preserve-credentials", "--target", &self.holder.id().to_string()]);
        command.arg(program()).args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("GREGAL_")) {
            command.env_remove(name);
        }
        command
    }

    /// Takes all the room there is, to the last byte.
    fn fill(&self) {
        let mut ballast = File::create(self.seen().join("ballast")).unwrap();
        for size in [1 << 20, 4096, 1] {
            let piece = vec![0x55; size];
            let error = loop {
                if let Err(error) = ballast.write_all(&piece) {
                    break error;
                }
            };
            assert_eq!(error.kind(), io::ErrorKind::StorageFull, "{error}");
        }
    }

    fn free(&self) {
        fs::remove_file(self.seen().join("ballast")).unwrap();
    }

    /// Objects, and what is on its way to become one.
    fn objects(&self) -> BTreeSet<PathBuf> {
        files(&self.seen().join("site/objects")).into_iter().collect()
    }

    /// Whether the site has noted anything of a dataset.
    fn notes_of(&self, dataset: &str) -> bool {
        let notes = files(&self.seen().join("site/datasets"));
        notes.iter().any(|path| path.to_string_lossy().contains(dataset))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// A cloud on the small disk.
struct Cloud {
    child: Running,
    control: String,
    admin: Option<String>,
}

impl Cloud {
    fn start(disk: &Disk) -> Self {
        let mut child =
            Running(disk.inside(&disk.up()).spawn().expect("`nsenter` of util-linux enters the namespaces"));
        let mut lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
        let admin =
            lines.find_map(|line| line.ok().filter(|line| line.starts_with("admin"))).expect("the cloud came up");
        let admin = admin.split_whitespace().find(|word| word.starts_with("gk_")).map(str::to_owned);
        // Whoever prints into a closed pipe ends.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, control: format!("http://127.0.0.1:{}", disk.ports.0), admin }
    }
}

/// A tenant, and what it was told is done.
struct Story {
    secret: String,
    owner: Client,
    http: reqwest::Client,
    organisation: String,
    project: String,
    projects: BTreeSet<String>,
    /// Datasets that are stored, with their content.
    stored: Vec<(String, Vec<u8>)>,
    /// A dataset that was announced and found no room.
    pending: String,
}

impl Story {
    async fn begin(cloud: &Cloud) -> Self {
        let admin = Client::new(&cloud.control, cloud.admin.clone()).unwrap();
        let wanted = json!({"name": "Full Lab", "country": "FR", "credit_cents": 2500});
        let made: Value = admin.call("organisation_create", &[]).body(&wanted).send().await.unwrap();
        let organisation = text(&made["organisation"]["id"]);
        let secret = text(&made["owner_key"]["secret"]);
        let mut story = Self {
            owner: admin.with_secret(secret.clone()),
            secret,
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            organisation,
            project: String::new(),
            projects: BTreeSet::new(),
            stored: Vec::new(),
            pending: String::new(),
        };
        story.project = story.project("lab").await.unwrap();
        let small = lines(64 << 10);
        let (id, grant) = story.announce("small").await;
        story.upload(&id, &grant, &small).await.unwrap();
        story.stored.push((id, small));
        story
    }

    /// Connections to the process that was killed are of no use.
    fn connect_again(&mut self, cloud: &Cloud) {
        self.owner = Client::new(&cloud.control, Some(self.secret.clone())).unwrap();
        self.http = reqwest::Client::builder().no_proxy().build().unwrap();
    }

    /// Makes a project; a name names the same wish for ever.
    async fn project(&mut self, name: &str) -> Result<String, Problem> {
        let call = self.owner.call("project_create", &[&self.organisation]).body(&json!({ "name": name }));
        match call.idempotency_key(format!("project-{name}")).send::<Value>().await {
            Ok(made) => {
                self.projects.insert(text(&made["id"]));
                Ok(text(&made["id"]))
            }
            Err(error) => Err(error.problem().unwrap_or_else(|| panic!("no answer of the contract: {error}")).clone()),
        }
    }

    async fn announce(&self, name: &str) -> (String, Value) {
        let call = self.owner.call("dataset_create", &[&self.project]).body(&json!({ "name": name }));
        let made: Value = call.send().await.unwrap();
        (text(&made["dataset"]["id"]), made["grant"].clone())
    }

    /// Sends a dataset to the site; a refusal comes as the problem the site named.
    async fn upload(&self, id: &str, grant: &Value, content: &[u8]) -> Result<(), Problem> {
        let address = format!("{}/content/v1/datasets/{id}", text(&grant["url"]));
        let sent =
            self.http.put(address).bearer_auth(text(&grant["grant"])).body(content.to_vec()).send().await.unwrap();
        let (status, body) = (sent.status().as_u16(), sent.bytes().await.unwrap());
        if status == 200 {
            return Ok(());
        }
        let problem: Problem = serde_json::from_slice(&body).unwrap();
        assert_eq!(problem.status, status);
        Err(problem)
    }

    async fn grant(&self, purpose: &str, object: &str) -> Value {
        let wanted = json!({"purpose": purpose, "object": object});
        self.owner.call("grant_create", &[&self.project]).body(&wanted).send().await.unwrap()
    }

    /// Status and bytes of a dataset, as the site tells them.
    async fn content(&self, id: &str, grant: &Value) -> (u16, Vec<u8>) {
        let address = format!("{}/content/v1/datasets/{id}", text(&grant["url"]));
        let answer = self.http.get(address).bearer_auth(text(&grant["grant"])).send().await.unwrap();
        (answer.status().as_u16(), answer.bytes().await.unwrap().to_vec())
    }

    async fn too_large_a_dataset_is_refused_and_leaves_nothing(&mut self, disk: &Disk) {
        let before = disk.objects();
        assert!(!before.is_empty() && disk.notes_of(&self.stored[0].0), "the small dataset lies elsewhere");
        let (id, grant) = self.announce("large").await;
        let refused = self.upload(&id, &grant, &lines((DISK_MIB + 8) << 20)).await.unwrap_err();
        assert_eq!((refused.code, refused.status), (Code::StorageFull, 507), "{}", refused.detail);
        assert!(refused.hint.is_some(), "{}", refused.detail);
        assert_eq!(disk.objects(), before, "something half-made stayed");
        assert!(!disk.notes_of(&id), "the site believes that it has what it refused");
        let view: Value = self.owner.call("dataset_read", &[&id]).send().await.unwrap();
        assert_eq!(view["state"], "pending");
        let wanted = json!({"purpose": "dataset_read", "object": id});
        let call = self.owner.call("grant_create", &[&self.project]).body(&wanted);
        let refused = call.send::<Value>().await.unwrap_err();
        assert_eq!(refused.problem().unwrap().code, Code::Conflict, "what is not there can be read: {refused}");
        // Others do not notice.
        self.project("beside").await.unwrap();
        self.pending = id;
    }

    /// Leave to write what is pending and to read what is stored: giving it is written down, which needs room.
    async fn grants(&self) -> (Value, Value) {
        (self.grant("dataset_write", &self.pending).await, self.grant("dataset_read", &self.stored[0].0).await)
    }

    async fn a_full_disk_is_said_and_what_is_there_is_still_told(&mut self, writes: &Value, reads: &Value) {
        let refused = self.upload(&self.pending, writes, &lines(64 << 10)).await.unwrap_err();
        assert_eq!((refused.code, refused.status), (Code::StorageFull, 507), "{}", refused.detail);
        // The store goes on in pages it has already, and then says the same.
        let mut made = 0;
        let refused = loop {
            match self.project(&format!("project-{made}")).await {
                Ok(_) => made += 1,
                Err(problem) => break problem,
            }
            assert!(made < PROJECTS_MAX, "{made} projects found room on a full disk");
        };
        assert_eq!((refused.code, refused.status), (Code::StorageFull, 507), "{}", refused.detail);
        let seen: Value = self.owner.call("organisation_read", &[&self.organisation]).send().await.unwrap();
        assert_eq!(seen["id"], self.organisation.as_str());
        let (id, content) = &self.stored[0];
        assert!(self.content(id, reads).await == (200, content.clone()), "a stored dataset cannot be read");
    }

    async fn with_room_again_all_goes_on(&mut self) {
        let again = format!("project-{}", self.projects.len() - 2);
        self.project(&again).await.unwrap();
        let content = lines(2 << 20);
        let grant = self.grant("dataset_write", &self.pending).await;
        self.upload(&self.pending, &grant, &content).await.unwrap();
        self.stored.push((self.pending.clone(), content));
    }

    async fn everything_acknowledged_is_there(&self) {
        let mut listed = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let query = json!({ "after": after });
            let page: Value =
                self.owner.call("projects_list", &[&self.organisation]).query(&query).send().await.unwrap();
            listed.extend(page["items"].as_array().unwrap().iter().map(|project| text(&project["id"])));
            after = page["next"].as_str().map(str::to_owned);
            if after.is_none() {
                break;
            }
        }
        assert_eq!(listed.len(), self.projects.len(), "a project is there twice, or was never acknowledged");
        assert_eq!(listed.into_iter().collect::<BTreeSet<_>>(), self.projects);
        for (id, content) in &self.stored {
            let grant = self.grant("dataset_read", id).await;
            let (status, found) = self.content(id, &grant).await;
            assert!(status == 200 && found == *content, "dataset {id} answers {status} with {} bytes", found.len());
            // The site tells control in its own time.
            let watch = Instant::now();
            loop {
                let view: Value = self.owner.call("dataset_read", &[id]).send().await.unwrap();
                if view["state"] == "stored" {
                    assert_eq!(view["bytes"], content.len());
                    break;
                }
                assert!(watch.elapsed() < Duration::from_mins(1), "dataset {id} is {}", view["state"]);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        let mut query = AuditQuery { after: None, limit: Some(PAGE_LIMIT_MAX), at: None };
        loop {
            let page: AuditList =
                self.owner.call("audit_list", &[&self.organisation]).query(&query).send().await.unwrap();
            page.verify(&page.log_key).unwrap();
            match page.next {
                Some(next) => query.after = Some(next),
                None => break,
            }
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("a text was expected, not {value}")).to_owned()
}

/// JSON lines of about this many bytes, no two alike.
fn lines(bytes: usize) -> Vec<u8> {
    let mut all = Vec::with_capacity(bytes + 256);
    for number in 0.. {
        if all.len() >= bytes {
            break;
        }
        let line = json!({"prompt": format!("What is the sign of station {number}?"), "completion": format!("S{}", number * 31)});
        writeln!(all, "{line}").unwrap();
    }
    all
}
