//! One call of the command line: options, the client, and what is found out once (organisation, project).

use gregal_api::{
    client::{self, Client},
    key::WhoAmI,
    organisation::OrganisationView,
    page::{PAGE_LIMIT_MAX, PageQuery},
    problem::Code,
    project::ProjectView,
};
use gregal_core::id::{OrganisationId, ProjectId};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{failure::Failure, options::Options, printer::Printer, surroundings::Surroundings, words};

/// Pages read of any list, at most: 100 000 items.
pub(crate) const PAGES_MAX: usize = 200;
/// How often a create is sent if its answer is lost. The idempotency key makes it the same act.
const CREATE_TRIES: u32 = 3;

/// What every verb works with.
pub(crate) struct Cx<'a> {
    pub(crate) here: &'a mut Surroundings,
    pub(crate) options: Options,
    pub(crate) client: Client,
    who: Option<WhoAmI>,
}

/// A page of any list.
#[derive(Debug, Deserialize)]
struct Page<T> {
    items: Vec<T>,
    #[serde(default)]
    next: Option<String>,
}

/// A whole list, as `--json` prints it.
#[derive(Debug, Serialize)]
pub(crate) struct Items<'a, T> {
    /// The items.
    pub(crate) items: &'a [T],
}

impl<'a> Cx<'a> {
    /// Checks the options and makes a client. Nothing is sent yet.
    pub(crate) fn open(options: Options, here: &'a mut Surroundings) -> Result<Self, Failure> {
        here.printer.want_json(options.json);
        let url = reqwest::Url::parse(&options.url).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let url = url.ok_or_else(|| {
            Failure::yours(format!("`{}` is no address of a control plane", options.url))
                .hint("one looks like `http://127.0.0.1:7480`; see `--url` and `GREGAL_URL`")
        })?;
        let secret = options.key.as_ref().and_then(|key| key.reveal()).ok_or_else(|| {
            Failure::yours("no key was given").hint(
                "`gregal login`, or `export GREGAL_KEY=gk_...`; `gregal up` shows the operator's key at its first start, \
                 `gregal organisation create` an owner's",
            )
        })?;
        if url.scheme() == "http" && !is_loopback(&url) {
            here.printer.note(&format!("warning: the key travels unencrypted to `{}`", options.url));
        }
        let client = Client::new(&options.url, Some(secret.to_owned()))?;
        Ok(Self { here, options, client, who: None })
    }

    pub(crate) const fn printer(&mut self) -> &mut Printer {
        &mut self.here.printer
    }

    /// The credential itself, for the site's gateway.
    pub(crate) fn secret(&self) -> &str {
        self.options.key.as_ref().and_then(|key| key.reveal()).unwrap_or_default()
    }

    /// Reads one thing.
    pub(crate) async fn read<T: DeserializeOwned>(&self, route: &str, parameters: &[&str]) -> Result<T, Failure> {
        self.told(self.client.call(route, parameters).send().await)
    }

    /// Reads one thing that a query narrows.
    pub(crate) async fn read_where<T: DeserializeOwned>(
        &self,
        route: &str,
        parameters: &[&str],
        query: &(impl Serialize + Sync),
    ) -> Result<T, Failure> {
        self.told(self.client.call(route, parameters).query(query).send().await)
    }

    /// Asks with a body; the route makes nothing new.
    pub(crate) async fn ask<T: DeserializeOwned>(
        &self,
        route: &str,
        parameters: &[&str],
        body: &(impl Serialize + Sync),
    ) -> Result<T, Failure> {
        self.told(self.client.call(route, parameters).body(body).send().await)
    }

    /// Makes something. If the answer is lost on the way, the same act is sent again.
    pub(crate) async fn create<T: DeserializeOwned>(
        &self,
        route: &str,
        parameters: &[&str],
        body: &(impl Serialize + Sync),
    ) -> Result<T, Failure> {
        let mut random = [0; 16];
        self.here.world.fill(&mut random);
        let once = format!("cli-{}", hex::encode(random));
        let mut tries = 1;
        loop {
            let call = self.client.call(route, parameters).idempotency_key(&once).body(body);
            match call.send().await {
                Err(client::Error::Unreachable { source, .. }) if !source.is_connect() && tries < CREATE_TRIES => {
                    tokio::time::sleep(self.here.poll * tries).await;
                    tries += 1;
                }
                answer => return self.told(answer),
            }
        }
    }

    /// Reads all pages of a list.
    pub(crate) async fn list<T: DeserializeOwned>(&self, route: &str, parameters: &[&str]) -> Result<Vec<T>, Failure> {
        self.list_where(route, parameters, &serde_json::json!({})).await
    }

    /// Reads all pages of a list that a query narrows.
    pub(crate) async fn list_where<T: DeserializeOwned>(
        &self,
        route: &str,
        parameters: &[&str],
        query: &(impl Serialize + Sync),
    ) -> Result<Vec<T>, Failure> {
        let mut items = Vec::new();
        let mut page = PageQuery { after: None, limit: Some(PAGE_LIMIT_MAX) };
        for _ in 0..PAGES_MAX {
            let found: Page<T> =
                self.told(self.client.call(route, parameters).query(query).query(&page).send().await)?;
            items.extend(found.items);
            match found.next {
                Some(next) => page.after = Some(next),
                None => return Ok(items),
            }
        }
        Err(Failure::yours(format!("the list has more than {} items", PAGES_MAX * PAGE_LIMIT_MAX as usize))
            .hint("ask for a shorter period, or read the pages through the API"))
    }

    /// Prints a list, or says on stderr that it is empty.
    pub(crate) fn show_list<T: Serialize>(
        &mut self,
        noun: &str,
        items: &[T],
        table: impl FnOnce(&[T]) -> crate::table::Table,
    ) -> Result<(), Failure> {
        self.here.printer.data(&Items { items }, |list| table(list.items).text())?;
        if items.is_empty() && !self.here.printer.json() {
            self.here.printer.note(&format!("no {noun}"));
        }
        Ok(())
    }

    /// Adds what the caller can do about an error that only this side can explain.
    pub(crate) fn told<T>(&self, answer: Result<T, client::Error>) -> Result<T, Failure> {
        answer.map_err(|error| {
            let failure = Failure::from(error);
            if failure.is(Code::Unauthenticated) {
                return failure.or_hint(format!(
                    "the key is unknown at `{}`, was revoked or has expired; `--key` or `GREGAL_KEY` gives another",
                    self.client.base()
                ));
            }
            if failure.is(Code::Forbidden) {
                return failure.or_hint("`gregal whoami` lists what the key's role allows");
            }
            failure
        })
    }

    /// Whom the key acts for.
    pub(crate) async fn whoami(&mut self) -> Result<WhoAmI, Failure> {
        if let Some(who) = &self.who {
            return Ok(who.clone());
        }
        let who: WhoAmI = self.read("whoami", &[]).await?;
        self.who = Some(who.clone());
        Ok(who)
    }

    /// The organisation's id: as told, else the key's, else the only one.
    pub(crate) async fn organisation(&mut self) -> Result<String, Failure> {
        self.organisation_called(self.options.organisation.clone()).await
    }

    /// The id of the organisation called so; without a name, the key's or the only one.
    pub(crate) async fn organisation_called(&mut self, asked: Option<String>) -> Result<String, Failure> {
        if let Some(asked) = asked {
            if words::is_id::<OrganisationId>(&asked) {
                return Ok(asked);
            }
            let all: Vec<OrganisationView> = self.list("organisations_list", &[]).await?;
            let found = all.iter().find(|organisation| organisation.name == asked);
            let missing = || {
                Failure::yours(format!("no organisation is called `{asked}`"))
                    .hint("`gregal organisation list` lists them")
            };
            return found.map(|organisation| organisation.id.to_string()).ok_or_else(missing);
        }
        if let Some(organisation) = self.whoami().await?.key.organisation {
            return Ok(organisation.to_string());
        }
        let all: Vec<OrganisationView> = self.list("organisations_list", &[]).await?;
        match all.as_slice() {
            [only] => Ok(only.id.to_string()),
            [] => Err(Failure::yours("there is no organisation yet")
                .hint("`gregal organisation create NAME --country FR` makes one")),
            _ => Err(Failure::yours("the key sees several organisations").hint("say which: `--organisation NAME`")),
        }
    }

    /// The project's id: as told, else the key's, else the only one.
    pub(crate) async fn project(&mut self) -> Result<String, Failure> {
        self.project_called(self.options.project.clone()).await
    }

    /// The id of the project called so; without a name, the key's or the only one.
    pub(crate) async fn project_called(&mut self, asked: Option<String>) -> Result<String, Failure> {
        if let Some(asked) = asked.as_ref().filter(|asked| words::is_id::<ProjectId>(asked)) {
            return Ok(asked.clone());
        }
        let bound = self.whoami().await?.key.project.map(|project| project.to_string());
        if let (Some(bound), None) = (&bound, &asked) {
            return Ok(bound.clone());
        }
        let all: Vec<ProjectView> = if let Some(bound) = &bound {
            vec![self.read("project_read", &[bound]).await?]
        } else {
            let organisation = self.organisation().await?;
            self.list("projects_list", &[&organisation]).await?
        };
        if let Some(asked) = asked {
            let found = all.iter().find(|project| project.name == asked);
            let missing =
                || Failure::yours(format!("no project is called `{asked}`")).hint("`gregal project list` lists them");
            return found.map(|project| project.id.to_string()).ok_or_else(missing);
        }
        match all.as_slice() {
            [only] => Ok(only.id.to_string()),
            [] => Err(Failure::yours("there is no project yet").hint("`gregal project create NAME` makes one")),
            [first, ..] => Err(Failure::yours(format!("there are {} projects", all.len()))
                .hint(format!("say which: `--project {}`, or set `GREGAL_PROJECT`", first.name))),
        }
    }
}

fn is_loopback(url: &reqwest::Url) -> bool {
    match url.host_str() {
        Some("localhost" | "[::1]") => true,
        Some(host) => host.parse::<std::net::Ipv4Addr>().is_ok_and(|address| address.is_loopback()),
        None => false,
    }
}
