//! What the page asks for, and the description of the routes.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::{Options, Running, quick, wait};

#[test]
fn the_page_and_its_files_are_there() {
    wait(async {
        let running = Running::with(Options { works: false, ..Options::default() });
        for (path, kind) in [("/", "text/html"), ("/docs", "text/html"), ("/docs/docs.js", "text/javascript")]
        {
            let answer = running.get(path).await;
            assert_eq!(answer.status, StatusCode::OK, "{path}");
            assert!(answer.header("content-type").starts_with(kind), "{path}");
        }
    });
}

#[test]
fn settings_are_those_of_the_library() {
    wait(async {
        let running = Running::with(Options { works: false, ..Options::default() });
        let settings = running.get("/api/settings").await.json();
        let settings = settings.as_array().expect("a list");
        let named = |name: &str| settings.iter().find(|setting| setting["name"] == name).expect(name);
        for row in aquatint_model::generate::SETTINGS {
            assert_eq!(named(row.api_keys[0])["help"], row.help);
        }
        assert_eq!((&named("width")["default"], &named("width")["step"]), (&json!(128), &json!(8.0)));
        let choice = |name: &str, value: Value| {
            let choices = named(name)["choices"].as_array().expect("choices");
            choices.iter().find(|choice| choice["value"] == value).expect(name).clone()
        };
        let euler = choice("sampler_name", json!("Euler a"));
        assert!(euler["help"].as_str().is_some_and(|help| help.contains("noise")), "{euler}");
        assert_eq!(choice("resize_mode", json!(0))["label"], "Stretch");
        assert_eq!(named("denoising_strength")["default_text"], "0.75, with a mask 1");
        // What is offered as a default is taken.
        let defaults = settings.iter().filter(|setting| !setting["default"].is_null());
        let mut request: serde_json::Map<String, Value> = defaults
            .map(|setting| (setting["name"].as_str().expect("a name").to_owned(), setting["default"].clone()))
            .collect();
        request.insert("steps".into(), 1.into());
        let answer = running.post("/api/jobs", &json!({ "kind": "txt2img", "request": request })).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.json());
    });
}

#[test]
fn presets_are_requests() {
    wait(async {
        let running = Running::with(Options { works: false, ..Options::default() });
        let presets = running.get("/api/presets").await.json();
        let presets = presets.as_array().expect("a list");
        assert_eq!(presets.len(), aquatint_model::generate::PRESETS.len());
        for preset in presets {
            let body = json!({ "kind": "txt2img", "request": preset["request"] });
            assert_eq!(running.post("/api/jobs", &body).await.status, StatusCode::ACCEPTED, "{preset}");
        }
    });
}

#[test]
fn a_job_is_explained() {
    wait(async {
        let running = Running::start();
        let job = running.job("txt2img", quick(json!({ "negative_prompt": "snow" }))).await;
        let explained = running.get(&format!("/api/jobs/{}/explain", job["id"])).await.json();
        let texts = |key: &str| {
            let tokens = explained[key].as_array().expect("tokens").iter();
            tokens.map(|token| token["text"].as_str().expect("a text").to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(texts("tokens"), ["<start>", "a", "fox", "<end>"]);
        assert_eq!(texts("negative_tokens"), ["<start>", "snow", "<end>"]);
        let steps = explained["steps"].as_array().expect("steps");
        assert_eq!(Some(steps.len() as u64), job["steps"].as_u64());
        let sigmas: Vec<_> = steps.iter().map(|step| step["sigma"].as_f64().expect("a number")).collect();
        assert!(sigmas.is_sorted_by(|a, b| a > b) && sigmas[0] > 1.0, "{sigmas:?}");
        let preview = running.get(steps[0]["preview_url"].as_str().expect("an address")).await;
        assert_eq!((preview.status, preview.header("content-type")), (StatusCode::OK, "image/jpeg"));
        let none = running.get("/api/jobs/999/explain").await;
        assert_eq!(none.status, StatusCode::NOT_FOUND);
    });
}

#[test]
fn an_estimate_needs_no_pictures() {
    wait(async {
        let running = Running::start();
        let ask = async |request: Value| {
            running.post("/api/estimate", &json!({ "kind": "img2img", "request": request })).await.json()
        };
        let first = ask(quick(json!({}))).await;
        assert!(
            first["seconds"].is_null() && first["bytes"].as_u64().is_some_and(|bytes| bytes > 1_000_000),
            "{first}"
        );
        running.job("txt2img", quick(json!({}))).await;
        assert!(ask(quick(json!({}))).await["seconds"].as_f64().is_some_and(|seconds| seconds > 0.0));
        let long = ask(quick(json!({ "prompt": "fox ".repeat(100) }))).await;
        assert!(long["warnings"][0].as_str().is_some_and(|text| text.contains("too long")), "{long}");
        let large = ask(quick(json!({ "width": 1024, "height": 1024 }))).await;
        assert!(large["warnings"][0].as_str().is_some_and(|text| text.contains("up to")), "{large}");
    });
}

#[test]
fn pictures_come_back_with_the_job_that_they_came_with() {
    wait(async {
        let running = Running::start();
        let fox = running.job("txt2img", quick(json!({}))).await;
        let png = running.get(fox["images"][0]["url"].as_str().expect("an address")).await.body;
        let request = quick(json!({
            "init_images": [format!("data:image/png;base64,{}", base64::encode(&png))], "denoising_strength": 0.5,
        }));
        let job = running.job("img2img", request).await;
        assert_eq!(job["state"], "done", "{job}");
        let address = job["request"]["init_images"][0].as_str().expect("an address");
        assert!(running.get(address).await.body == png);
        assert!(
            job["images"][0]["infotext"]
                .as_str()
                .is_some_and(|text| text.contains("Denoising strength: 0.5"))
        );
        let info = running.get("/metrics").await.body;
        assert!(String::from_utf8_lossy(&info).contains("aquatint_jobs_done_total 2"));
    });
}

#[test]
fn the_description_names_every_route_once() {
    wait(async {
        let running = Running::with(Options { works: false, ..Options::default() });
        let description = running.get("/openapi.json").await.json();
        assert_eq!(description["openapi"], "3.1.0");
        let paths = description["paths"].as_object().expect("routes");
        for path in ["/api/jobs", "/api/jobs/{id}", "/sdapi/v1/txt2img", "/v1/images/edits"] {
            assert!(paths.contains_key(path), "{path}");
        }
        assert_eq!(description["components"]["securitySchemes"]["key"]["scheme"], "bearer");
        let fields = &description["components"]["schemas"]["Request"]["properties"];
        assert_eq!(fields["steps"]["type"], "integer");
        assert_eq!(fields["inpainting_mask_invert"]["type"], "boolean");
    });
}
