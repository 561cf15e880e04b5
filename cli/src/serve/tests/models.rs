//! Which model draws.

use aquatint_model::tools::random_model::{Architecture, DType, RandomModel};
use axum::http::StatusCode;
use serde_json::json;

use super::{Options, Running, quick, wait};

#[test]
fn models_of_a_folder_are_listed_and_loaded() {
    wait(async {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let tiny = RandomModel { architecture: Architecture::TINY, dtype: DType::F16, seed: 0 };
        tiny.write(&folder.path().join("tiny"), &mut |_, _| {}).expect("the folder is writable");
        let models = vec![folder.path().to_owned()];
        let running = Running::with(Options { models, ..Options::default() });
        let listed = running.get("/api/models").await.json();
        let named = |name: &str| {
            listed.as_array().expect("a list").iter().find(|model| model["name"] == name).cloned()
        };
        assert_eq!(named("embedded").expect("it is always there")["loaded"], true);
        assert_eq!(named("tiny").expect("it is in the folder")["loaded"], false);

        // For one request, and then for all.
        let of =
            |job: &serde_json::Value| job["images"][0]["infotext"].as_str().unwrap_or_default().to_owned();
        let other = quick(json!({ "override_settings": { "sd_model_checkpoint": "tiny" } }));
        let job = running.job("txt2img", other).await;
        assert!(of(&job).contains("Model: tiny"), "{job}");
        assert!(of(&running.job("txt2img", quick(json!({}))).await).contains("Model: <embedded>"));
        let chosen =
            running.post("/sdapi/v1/options", &json!({ "sd_model_checkpoint": "tiny [0123456789]" })).await;
        assert_eq!(chosen.status, StatusCode::OK, "{}", String::from_utf8_lossy(&chosen.body));
        assert_eq!(running.get("/api/info").await.json()["model"]["name"], "tiny");
        assert!(of(&running.job("txt2img", quick(json!({}))).await).contains("Model: tiny"));

        // What is freed is read again.
        for path in ["unload-checkpoint", "reload-checkpoint", "unload-checkpoint"] {
            let answer = running.post(&format!("/sdapi/v1/{path}"), &json!({})).await;
            assert_eq!(answer.status, StatusCode::OK, "{path}");
        }
        assert_eq!(running.job("txt2img", quick(json!({}))).await["state"], "done");
        let none = running.post("/api/model", &json!({ "name": "none" })).await;
        assert_eq!(none.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert!(
            none.json()["error"]["message"].as_str().is_some_and(|text| text.contains("embedded, tiny")),
            "{}",
            none.json()
        );
    });
}
