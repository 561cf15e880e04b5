//! A1111's interface; its clients themselves are asked by `tests/clients/`.

use axum::body::Body;
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::{Options, Running, quick, request, wait};

#[test]
fn pictures_come_with_what_a1111_says_of_them() {
    wait(async {
        let running = Running::start();
        let more =
            json!({ "batch_size": 2, "sampler_name": "Euler a", "cfg_scale": 3.5, "alwayson_scripts": {} });
        let answer = running.post("/sdapi/v1/txt2img", &quick(more)).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.json());
        let body = answer.json();
        assert_eq!(body["images"].as_array().map(Vec::len), Some(2));
        let info: Value = serde_json::from_str(body["info"].as_str().expect("a text")).expect("JSON in it");
        assert_eq!(info["all_seeds"], json!([7, 8]));
        assert_eq!((&info["sampler_name"], &info["cfg_scale"]), (&json!("Euler a"), &json!(3.5)));
        let described =
            running.post("/sdapi/v1/png-info", &json!({ "image": body["images"][1] })).await.json();
        assert_eq!(described["info"], info["infotexts"][1]);
        assert_eq!(described["parameters"]["Seed"], "8");
        // As `webuiapi` sends it with every sampler.
        for sampler in ["Euler a", "Euler", "DDIM"] {
            let request = quick(json!({ "sampler_name": sampler, "eta": 1.0 }));
            assert_eq!(running.post("/sdapi/v1/txt2img", &request).await.status, StatusCode::OK, "{sampler}");
        }
        let silent = running.post("/sdapi/v1/txt2img", &quick(json!({ "send_images": false }))).await.json();
        assert_eq!(silent["images"], json!([]));
    });
}

#[test]
fn weights_of_prompts_count_as_in_a1111() {
    wait(async {
        let running = Running::start();
        let image =
            async |more| running.post("/sdapi/v1/txt2img", &quick(more)).await.json()["images"][0].clone();
        let weighted = image(json!({ "prompt": "a (fox:1.4)" })).await;
        let plain = image(json!({ "prompt": "a (fox:1.4)", "prompt_syntax": "plain" })).await;
        assert!(weighted != plain);
        let info = running.post("/api/png-info", &json!({ "image": weighted })).await.json();
        assert_eq!(info["request"]["prompt_syntax"], "a1111");
        // What a picture says makes it again.
        let text = json!({ "infotext": info["infotext"] });
        let again = running.post("/sdapi/v1/txt2img", &text).await.json()["images"][0].clone();
        assert!(again == weighted);
    });
}

#[test]
fn what_this_program_does_not_have_is_refused_by_name() {
    wait(async {
        let running = Running::with(Options { works: false, ..Options::default() });
        for (path, body, message) in [
            (
                "txt2img",
                json!({ "alwayson_scripts": { "ControlNet": { "args": [] } } }),
                "script `ControlNet`",
            ),
            ("txt2img", json!({ "script_name": "X/Y/Z plot" }), "script `X/Y/Z plot`"),
            ("txt2img", json!({ "restore_faces": true }), "`restore_faces`"),
            ("txt2img", json!({ "tiling": true }), "`tiling`"),
            ("txt2img", json!({ "override_settings": { "sd_model_checkpoint": "none" } }), "no model `none`"),
            ("options", json!({ "sd_vae": "other.pt" }), "`sd_vae`"),
            ("options", json!({ "CLIP_stop_at_last_layers": "two" }), "`CLIP_stop_at_last_layers`"),
            ("extra-single-image", json!({ "image": "", "upscaler_1": "ESRGAN" }), "no upscaler `ESRGAN`"),
            ("extra-single-image", json!({ "image": "", "gfpgan_visibility": 1 }), "`gfpgan_visibility`"),
        ] {
            let answer = running.post(&format!("/sdapi/v1/{path}"), &body).await;
            let refusal = answer.json();
            assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{body}: {refusal}");
            assert!(
                refusal["detail"].as_str().is_some_and(|detail| detail.contains(message)),
                "{body}: {refusal}"
            );
            assert_eq!(refusal["errors"], refusal["detail"]);
        }
        let request = request("POST", "/sdapi/v1/txt2img").header("content-type", "text/plain");
        let answer = running.send(request.body(Body::from("{}")).expect("a request")).await;
        assert_eq!(answer.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
        assert!(answer.json()["detail"].is_string());
    });
}

#[test]
fn every_list_is_there() {
    wait(async {
        let running = Running::with(Options { works: false, ..Options::default() });
        for path in [
            "progress",
            "options",
            "cmd-flags",
            "memory",
            "sd-models",
            "sd-vae",
            "samplers",
            "schedulers",
            "upscalers",
            "latent-upscale-modes",
            "loras",
            "embeddings",
            "hypernetworks",
            "face-restorers",
            "realesrgan-models",
            "prompt-styles",
            "scripts",
            "script-info",
        ] {
            let answer = running.get(&format!("/sdapi/v1/{path}")).await;
            assert_eq!(answer.status, StatusCode::OK, "{path}");
            answer.json();
        }
        for path in
            ["interrupt", "skip", "refresh-checkpoints", "refresh-vae", "refresh-loras", "refresh-embeddings"]
        {
            assert_eq!(
                running.post(&format!("/sdapi/v1/{path}"), &json!({})).await.status,
                StatusCode::OK,
                "{path}"
            );
        }
        let models = running.get("/sdapi/v1/sd-models").await.json();
        assert_eq!(running.get("/sdapi/v1/options").await.json()["sd_model_checkpoint"], models[0]["title"]);
    });
}

#[test]
fn an_interrupted_picture_is_what_was_predicted() {
    wait(async {
        let running = Running::start();
        let long = quick(json!({ "steps": 400, "n_iter": 3 }));
        let drawing = running.post("/sdapi/v1/txt2img", &long);
        let interrupting = async {
            loop {
                let progress = running.get("/sdapi/v1/progress").await.json();
                if progress["state"]["sampling_step"].as_u64().is_some_and(|step| step > 0) {
                    assert!(
                        progress["current_image"].as_str().is_some_and(|image| image.starts_with("/9j/"))
                    );
                    return running.post("/sdapi/v1/interrupt", &json!({})).await;
                }
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        let (drawn, _) = futures_util::future::join(drawing, interrupting).await;
        let body = drawn.json();
        assert_eq!(body["images"].as_array().map(Vec::len), Some(1), "no further picture is begun");
        let info: Value = serde_json::from_str(body["info"].as_str().expect("a text")).expect("JSON in it");
        assert!(info["infotexts"][0].as_str().is_some_and(|text| text.contains("Stopped after: ")), "{info}");
    });
}
