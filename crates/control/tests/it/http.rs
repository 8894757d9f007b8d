//! The outside of it all: problems, bounds, pages, and a real socket.

use std::net::SocketAddr;

use axum::{body::Body, http::Request};
use gregal_api::{
    client::{Client, Error},
    job::JobView,
    key::WhoAmI,
    organisation::{OrganisationCreate, OrganisationCreated},
    problem::Code,
};
use serde_json::{Value, json};

use crate::world::Cloud;

#[tokio::test]
async fn whatever_is_refused_is_told_as_a_problem_with_the_requests_id() {
    let cloud = Cloud::open().await;
    let tenant = cloud.tenant("Acme", 0).await;
    let send = async |method: &str, path: &str, body: &[u8]| {
        let request =
            Request::builder().method(method).uri(path).header("authorization", format!("Bearer {}", tenant.owner));
        cloud.send(request.body(Body::from(body.to_vec())).unwrap()).await
    };
    let projects = format!("/api/v1/organisations/{}/projects", tenant.organisation);
    let cases: [(&str, &str, &[u8], u16, &str); 10] = [
        ("GET", "/nowhere", b"", 404, "not_found"),
        ("DELETE", "/api/v1/whoami", b"", 405, "method_not_allowed"),
        ("POST", &projects, b"{", 400, "invalid_request"),
        ("POST", &projects, b"\xff\xfe", 400, "invalid_request"),
        ("POST", &projects, b"", 400, "invalid_request"),
        ("POST", &projects, br#"{"name":"Not A Label"}"#, 400, "invalid_request"),
        ("POST", &projects, br#"{"name":"a","extra":1}"#, 400, "invalid_request"),
        ("GET", "/api/v1/projects/nonsense", b"", 400, "invalid_request"),
        ("GET", "/api/v1/projects/prj_00000000000000000000000000", b"", 404, "not_found"),
        ("GET", "/api/v1/sites?limit=501", b"", 400, "invalid_request"),
    ];
    for (method, path, body, status, code) in cases {
        let answer = send(method, path, body).await;
        assert_eq!((answer.status, answer.problem().as_str()), (status, code), "{method} {path}: {}", answer.text);
        assert_eq!(answer.headers["x-request-id"], answer.json()["request"].as_str().unwrap());
    }
    let large = send("POST", &projects, &vec![b' '; (1 << 20) + 1]).await;
    assert_eq!((large.status, large.problem().as_str()), (413, "too_large"));
    let nobody = cloud.send(Request::get("/api/v1/whoami").body(Body::empty()).unwrap()).await;
    assert_eq!((nobody.status, nobody.problem().as_str()), (401, "unauthenticated"));
    assert_eq!(nobody.headers["www-authenticate"], "Bearer");
}

#[tokio::test]
async fn a_stranger_cannot_tell_somebody_elses_object_from_one_that_is_not_there() {
    let cloud = Cloud::open().await;
    let (tenant, stranger) = (cloud.tenant("Acme", 0).await, cloud.tenant("Other", 0).await);
    let real = cloud.call(&stranger.owner, "project_read", &[&tenant.project()], Value::Null).await;
    let made_up = gregal_core::id::ProjectId::from_u128(7).to_string();
    let nothing = cloud.call(&stranger.owner, "project_read", &[&made_up], Value::Null).await;
    let blank = |answer: &crate::world::Answer, id: &str| {
        let mut problem = answer.json();
        problem["request"] = Value::Null;
        problem.to_string().replace(id, "ID")
    };
    assert_eq!(blank(&real, &tenant.project()), blank(&nothing, &made_up));
}

#[tokio::test]
async fn long_lists_come_in_pages_that_together_hold_everything_once() {
    let cloud = Cloud::open().await;
    let tenant = cloud.tenant("Acme", 0).await;
    let organisation = tenant.organisation();
    for i in 0..7 {
        let wanted = json!({ "name": format!("p{i}") });
        cloud.call(&tenant.owner, "project_create", &[&organisation], wanted).await.good();
    }
    let base = format!("/api/v1/organisations/{organisation}/projects?limit=3");
    let (mut path, mut names, mut pages) = (base.clone(), Vec::new(), 0);
    loop {
        let page = cloud.get(&tenant.owner, &path).await.good();
        let items = page["items"].as_array().unwrap();
        assert!(items.len() <= 3);
        names.extend(items.iter().map(|item| item["name"].as_str().unwrap().to_owned()));
        pages += 1;
        let Some(next) = page["next"].as_str() else { break };
        path = format!("{base}&after={next}");
    }
    names.sort();
    assert_eq!((pages, names.len()), (3, 8));
    names.dedup();
    assert_eq!(names.len(), 8);
    for wrong in ["&limit=0", "&after=a%27b", "&surprise=1", "&limit=many"] {
        assert_eq!(cloud.get(&tenant.owner, &format!("{base}{wrong}")).await.problem(), "invalid_request", "{wrong}");
    }
}

#[tokio::test]
async fn health_metrics_and_the_contract_are_open_and_name_no_tenant() {
    let cloud = Cloud::open().await;
    let tenant = cloud.tenant("Acme Secret", 0).await;
    for path in ["/healthz", "/readyz", "/metrics", "/api/v1/openapi.json"] {
        let answer = cloud.send(Request::get(path).body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status, 200, "{path}");
        assert!(!answer.text.contains("Acme") && !answer.text.contains(&tenant.organisation()), "{path}");
    }
    let metrics = cloud.send(Request::get("/metrics").body(Body::empty()).unwrap()).await;
    assert!(metrics.text.contains("\ngregal_control_requests_done_total "), "{}", metrics.text);
    cloud.store.close().await.unwrap();
    let ready = cloud.send(Request::get("/readyz").body(Body::empty()).unwrap()).await;
    assert_eq!((ready.status, ready.problem().as_str()), (503, "unavailable"));
    assert_eq!(cloud.send(Request::get("/healthz").body(Body::empty()).unwrap()).await.status, 200);
}

#[tokio::test]
async fn over_a_real_socket_the_typed_client_and_the_running_tasks_do_the_same() {
    let cloud = Cloud::open().await;
    let mut site = cloud.site("lyon", "FR").await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = cloud.control.router();
    let server =
        tokio::spawn(
            async move { axum::serve(listener, router.into_make_service_with_connect_info::<SocketAddr>()).await },
        );
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let control = cloud.control.clone();
    let tasks = tokio::spawn(async move { control.run(async { drop(stopped.await) }).await });

    let operator = Client::new(&url, Some(cloud.operator.clone())).unwrap();
    let wanted = OrganisationCreate {
        name: "Acme".into(),
        country: "FR".into(),
        vat_id: None,
        plan: None,
        credit_cents: 1_000,
        residency: None,
    };
    let made: OrganisationCreated = operator.call("organisation_create", &[]).body(&wanted).send().await.unwrap();
    let owner = operator.with_secret(made.owner_key.secret.unwrap());
    let me: WhoAmI = owner.call("whoami", &[]).send().await.unwrap();
    assert_eq!(me.key.organisation, Some(made.organisation.id));
    let refused = owner.call("audit_list_all", &[]).send::<Value>().await.unwrap_err();
    assert_eq!(refused.problem().map(|problem| problem.code), Some(Code::Forbidden));
    assert!(matches!(owner.call("project_read", &["nonsense"]).send::<Value>().await, Err(Error::Problem(_))));

    // The tasks run by themselves: a job that needs no data is bound without anybody stepping.
    let organisation = made.organisation.id.to_string();
    let project: Value =
        owner.call("project_create", &[&organisation]).body(&json!({ "name": "main" })).send().await.unwrap();
    let job = json!({
        "name": "hello", "sku": "cpu.1", "seconds_max": 60, "program": { "kind": "command", "argv": ["true"] },
    });
    let project = project["id"].as_str().unwrap().to_owned();
    let job: JobView = owner.call("job_create", &[&project]).body(&job).send().await.unwrap();
    let id = job.id.to_string();
    let bound = async {
        loop {
            // A site that stays alive, however long this takes.
            site.sync(&cloud).await;
            let job: JobView = owner.call("job_read", &[&id]).send().await.unwrap();
            if job.site == Some(site.id) {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), bound).await.expect("the job is bound");
    stop.send(()).unwrap();
    tokio::time::timeout(std::time::Duration::from_secs(30), tasks).await.expect("the tasks end when told").unwrap();
    server.abort();
}
