//! Who may ask.

use axum::body::Body;
use axum::http::{Request, StatusCode};
use serde_json::json;

use super::{Options, Running, request, wait};
use crate::serve::security::Access;

fn with(hosts: &[&str], origins: &[&str], key: Option<&str>) -> Running {
    let owned = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect();
    let access = Access { hosts: owned(hosts), origins: owned(origins), key: key.map(str::to_owned) };
    Running::with(Options { access, works: false, ..Options::default() })
}

#[test]
fn only_our_own_names_are_answered() {
    wait(async {
        let running = with(&["studio.lan"], &[], None);
        for (host, good) in [
            ("127.0.0.1:7860", true),
            ("localhost", true),
            ("LOCALHOST:1", true),
            ("[::1]:7860", true),
            ("192.168.1.9:7860", true),
            ("studio.lan:7860", true),
            ("evil.example", false),
            ("localhost.evil.example:7860", false),
            ("127.0.0.1.evil.example", false),
            ("", false),
        ] {
            let request = Request::builder().uri("/api/info").header("host", host);
            let answer = running.send(request.body(Body::empty()).expect("a request")).await;
            let expected = if good { StatusCode::OK } else { StatusCode::FORBIDDEN };
            assert_eq!(answer.status, expected, "{host}");
        }
    });
}

#[test]
fn pages_of_other_sites_change_nothing() {
    wait(async {
        let running = with(&[], &["https://friend.example"], None);
        for (name, value, good) in [
            ("origin", "http://127.0.0.1:7860", true),
            ("origin", "https://friend.example", true),
            ("origin", "https://evil.example", false),
            ("origin", "http://127.0.0.1:80", false),
            ("origin", "null", false),
            ("sec-fetch-site", "cross-site", false),
            ("sec-fetch-site", "same-origin", true),
        ] {
            let request = request("POST", "/api/session").header("content-type", "application/json");
            let request = request.header(name, value).body(Body::from(json!({ "key": "" }).to_string()));
            let answer = running.send(request.expect("a request")).await;
            let expected = if good { StatusCode::NO_CONTENT } else { StatusCode::FORBIDDEN };
            assert_eq!(answer.status, expected, "{name}: {value}");
        }
        for (origin, allowed) in
            [("https://friend.example", "https://friend.example"), ("https://evil.example", "")]
        {
            let request = request("GET", "/api/info").header("origin", origin).body(Body::empty());
            let answer = running.send(request.expect("a request")).await;
            assert_eq!(answer.header("access-control-allow-origin"), allowed);
        }
    });
}

#[test]
fn a_key_comes_in_four_ways() {
    wait(async {
        let running = with(&[], &[], Some("s3cret:ü"));
        let opened = running.post("/api/session", &json!({ "key": "s3cret:ü" })).await;
        let cookie = opened.header("set-cookie").split(';').next().expect("a cookie").to_owned();
        assert!(opened.header("set-cookie").contains("HttpOnly; SameSite=Strict"));
        assert_eq!(
            running.post("/api/session", &json!({ "key": "s3cret" })).await.status,
            StatusCode::UNAUTHORIZED
        );
        let basic = |text: &str| format!("Basic {}", base64::encode(text));
        for (name, value, good) in [
            ("authorization", "Bearer s3cret", false),
            ("authorization", &basic("anybody:s3cret:ü"), true),
            ("authorization", &basic("s3cret:s3cret:o"), false),
            ("authorization", "Basic ???", false),
            ("cookie", &format!("a=b; {cookie}"), true),
            ("cookie", "aquatint-key=AAAA", false),
            ("x-api-key", "", false),
            ("accept", "*/*", false),
        ] {
            let request = request("GET", "/api/info").header(name, value).body(Body::empty());
            let answer = running.send(request.expect("a request")).await;
            let expected = if good { StatusCode::OK } else { StatusCode::UNAUTHORIZED };
            assert_eq!(answer.status, expected, "{name}: {value}");
        }
        let plain = with(&[], &[], Some("s3cret"));
        for (name, value) in [("authorization", "Bearer s3cret"), ("x-api-key", "s3cret")] {
            let request = request("GET", "/api/info").header(name, value).body(Body::empty());
            assert_eq!(plain.send(request.expect("a request")).await.status, StatusCode::OK, "{name}");
        }
        for open in ["/", "/health"] {
            assert_eq!(running.get(open).await.status, StatusCode::OK, "{open}");
        }
    });
}

#[test]
fn every_answer_says_what_a_browser_may_do_with_it() {
    wait(async {
        let running = with(&[], &[], None);
        for path in ["/", "/api/info", "/nowhere", "/api/images/1/..%2f..%2fjournal.redb"] {
            let answer = running.get(path).await;
            assert!(answer.header("content-security-policy").starts_with("default-src 'none'"), "{path}");
            assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
            assert_eq!(answer.header("cross-origin-resource-policy"), "same-origin", "{path}");
        }
    });
}

#[test]
fn no_path_leaves_the_folders() {
    wait(async {
        let running = with(&[], &[], None);
        for path in [
            "/page/../mod.rs",
            "/page/%2e%2e/mod.rs",
            "/page//etc/passwd",
            "/api/images/1/..%2fjournal.redb",
            "/api/images/..%2f1/0.png",
            "/api/images/1/%2e%2e%2f%2e%2e%2fetc%2fpasswd.png",
        ] {
            let status = running.get(path).await.status;
            assert!(status == StatusCode::NOT_FOUND || status == StatusCode::BAD_REQUEST, "{path}: {status}");
        }
        for path in ["/etc/passwd", "../x.pth", "Cargo.toml"] {
            let text = format!("a fox\nSteps: 2, Sampler: Euler, Hires upscale: 2, Hires upscaler: {path}");
            for request in [json!({ "enable_hr": true, "hr_upscaler": path }), json!({ "infotext": text })] {
                let body = json!({ "kind": "txt2img", "request": request });
                let answer = running.post("/api/jobs", &body).await;
                assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
                let message = answer.json()["error"]["message"].to_string();
                assert!(message.contains("is a path"), "whether it exists is not said: {message}");
            }
        }
        let model = running.post("/api/model", &json!({ "name": "../../etc" })).await;
        assert_eq!(model.status, StatusCode::UNPROCESSABLE_ENTITY);
    });
}
