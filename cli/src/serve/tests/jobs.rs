//! Jobs from their request to their pictures.

use aquatint_kernels::Isa;
use aquatint_model::{EMBEDDED, Image, LoadOptions, Pipeline, TextToImage};
use axum::http::StatusCode;
use serde_json::json;

use super::{Options, Running, quick, wait};

/// The picture that the library makes, as a PNG.
fn picture(request: impl FnOnce(TextToImage) -> TextToImage) -> Vec<u8> {
    let options = LoadOptions { isa: Isa::best(), keep: false, ..LoadOptions::default() };
    let pipeline = Pipeline::load(EMBEDDED, &options).expect("the embedded model");
    let request = request(TextToImage { width: 64, height: 64, steps: 2, ..pipeline.defaults() });
    let picture: Image = pipeline.text_to_image(&request, &mut |_| {}).expect("a picture");
    picture.to_png().expect("a picture")
}

#[test]
fn a_job_makes_the_pictures_that_the_command_line_makes() {
    wait(async {
        let running = Running::start();
        let job = running.job("txt2img", quick(json!({ "n_iter": 2, "batch_size": 2 }))).await;
        assert_eq!((&job["state"], &job["error"]), (&json!("done"), &json!(null)), "{job}");
        let images = job["images"].as_array().expect("pictures");
        assert_eq!(images.len(), 4);
        for (i, image) in images.iter().enumerate() {
            assert_eq!(image["seed"], 7 + i as u64);
            let answer = running.get(image["url"].as_str().expect("an address")).await;
            assert_eq!((answer.status, answer.header("content-type")), (StatusCode::OK, "image/png"));
            let expected =
                picture(|request| TextToImage { prompt: "a fox".into(), seed: 7 + i as u64, ..request });
            assert!(answer.body == expected, "picture {i} has other bytes than the command line's");
            let small = running.get(image["thumbnail_url"].as_str().expect("an address")).await;
            assert_eq!((small.status, small.header("content-type")), (StatusCode::OK, "image/jpeg"));
        }
    });
}

#[test]
fn what_cannot_be_met_is_refused_before_it_is_queued() {
    wait(async {
        let running = Running::with(Options { works: false, ..Options::default() });
        for (kind, request, field, message) in [
            ("txt2img", json!({ "steps": 0 }), None, "steps"),
            ("txt2img", json!({ "steps": "many" }), Some("steps"), "expected a whole number"),
            ("txt2img", json!({ "width": 100 }), None, "multiple of 8"),
            ("txt2img", json!({ "width": 1024, "height": 1024 }), Some("width"), "up to 262144 pixels"),
            ("txt2img", json!({ "sampler_name": "dpm4" }), None, "unknown sampler"),
            ("txt2img", json!({ "sampler_name": "DDIM", "scheduler": "karras" }), None, "no schedule"),
            ("txt2img", json!({ "n_iter": 1000 }), Some("n_iter"), "at most 100"),
            ("txt2img", json!({ "restore_faces": true }), Some("restore_faces"), "not supported"),
            (
                "txt2img",
                json!({ "enable_hr": true, "hr_scale": 8, "width": 128, "height": 128 }),
                Some("width"),
                "up to 262144 pixels",
            ),
            ("txt2img", json!({ "init_images": ["iVBORw0KGgo"] }), Some("init_images"), "takes no such"),
            ("img2img", json!({}), None, "expected a picture"),
            ("img2img", json!({ "init_images": ["/etc/passwd"] }), Some("init_images"), "base64"),
            ("img2img", json!({ "init_images": ["data:image/png;base64,AAAA"] }), None, "no PNG, JPEG"),
        ] {
            let answer = running.post("/api/jobs", &json!({ "kind": kind, "request": request })).await;
            let body = answer.json();
            assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{request}: {body}");
            assert_eq!(body["error"]["field"].as_str(), field, "{request}: {body}");
            let text = body["error"]["message"].as_str().expect("a sentence");
            assert!(text.contains(message), "{request}: {text}");
        }
        assert_eq!(running.get("/api/jobs").await.json(), json!([]));
    });
}

#[test]
fn a_full_queue_says_when_to_come_again() {
    wait(async {
        let running = Running::with(Options { works: false, max_queue: 2, ..Options::default() });
        let body = json!({ "kind": "txt2img", "request": quick(json!({})) });
        for _ in 0..2 {
            assert_eq!(running.post("/api/jobs", &body).await.status, StatusCode::ACCEPTED);
        }
        let refused = running.post("/api/jobs", &body).await;
        assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
        assert!(refused.header("retry-after").parse::<u64>().expect("seconds") >= 1);
        let waiting = running.get("/api/jobs").await.json();
        let positions: Vec<_> =
            waiting.as_array().expect("jobs").iter().map(|job| &job["position"]).collect();
        assert_eq!(positions, [&json!(1), &json!(0)], "the newest first");
    });
}

#[test]
fn the_next_process_makes_what_the_last_one_accepted() {
    wait(async {
        let first = Running::with(Options { works: false, ..Options::default() });
        let body = json!({ "kind": "txt2img", "request": quick(json!({ "seed": -1 })) });
        let id = first.post("/api/jobs", &body).await.json()["id"].as_u64().expect("a number");
        let seed = first.get(&format!("/api/jobs/{id}")).await.json()["seed"].clone();
        let folder = first.end();
        let second = Running::in_folder(folder, Options::default());
        let job = second.finished(id).await;
        assert_eq!((&job["state"], &job["images"][0]["seed"]), (&json!("done"), &seed), "{job}");
        let next = second.job("txt2img", quick(json!({}))).await;
        assert!(next["id"].as_u64().expect("a number") > id);
    });
}

#[test]
fn a_job_is_cancelled_within_a_step_and_a_finished_one_removed() {
    wait(async {
        let running = Running::start();
        let long = json!({ "kind": "txt2img", "request": quick(json!({ "steps": 500, "n_iter": 9 })) });
        let ids: Vec<u64> = {
            let mut ids = Vec::new();
            for _ in 0..2 {
                ids.push(running.post("/api/jobs", &long).await.json()["id"].as_u64().expect("a number"));
            }
            ids
        };
        for id in ids.iter().rev() {
            assert_eq!(running.delete(&format!("/api/jobs/{id}")).await.status, StatusCode::NO_CONTENT);
            let job = running.finished(*id).await;
            assert_eq!((&job["state"], &job["images"]), (&json!("cancelled"), &json!([])), "{job}");
        }
        let done = running.job("txt2img", quick(json!({}))).await;
        let url = done["images"][0]["url"].as_str().expect("an address").to_owned();
        let path = format!("/api/jobs/{}", done["id"]);
        assert_eq!(running.get(&url).await.status, StatusCode::OK);
        assert_eq!(running.delete(&path).await.status, StatusCode::NO_CONTENT);
        for gone in [&path, &url] {
            assert_eq!(running.get(gone).await.status, StatusCode::NOT_FOUND, "{gone}");
        }
    });
}

#[test]
fn like_jobs_that_wait_are_drawn_together_to_the_same_bits() {
    wait(async {
        let running = Running::with(Options { works: false, ..Options::default() });
        let prompts = ["a fox", "two green apples", "a fox"];
        let mut ids = Vec::new();
        for (i, prompt) in prompts.iter().enumerate() {
            let request = quick(json!({ "prompt": prompt, "seed": i }));
            let body = json!({ "kind": "txt2img", "request": request });
            ids.push(running.post("/api/jobs", &body).await.json()["id"].as_u64().expect("a number"));
        }
        let other = json!({ "kind": "txt2img", "request": quick(json!({ "steps": 3 })) });
        ids.push(running.post("/api/jobs", &other).await.json()["id"].as_u64().expect("a number"));
        let worker = std::thread::spawn({
            let server = std::sync::Arc::clone(&running.server);
            move || super::worker::run(&server)
        });
        for (i, (id, prompt)) in ids.iter().zip(prompts).enumerate() {
            let job = running.finished(*id).await;
            assert_eq!(job["state"], "done", "{job}");
            let found = running.get(job["images"][0]["url"].as_str().expect("an address")).await.body;
            let expected =
                picture(|request| TextToImage { prompt: prompt.into(), seed: i as u64, ..request });
            assert!(found == expected, "picture {i} has other bytes than alone");
        }
        running.finished(ids[3]).await;
        let steps = running.server.metrics.steps.load(std::sync::atomic::Ordering::Relaxed);
        assert_eq!(steps, 2 + 3, "three jobs share their steps");
        running.end();
        worker.join().expect("the worker ends");
    });
}

#[test]
fn a_run_that_was_broken_off_goes_on_to_the_same_bits() {
    wait(async {
        let running = Running::start();
        let body = json!({ "kind": "txt2img", "request": quick(json!({ "steps": 40 })) });
        let id = running.post("/api/jobs", &body).await.json()["id"].as_u64().expect("a number");
        while running.get(&format!("/api/jobs/{id}")).await.json()["step"].as_u64() < Some(2) {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
        let folder = running.end();
        assert!(folder.path().join(format!("{id}.run")).is_file(), "the run is saved");
        let next = Running::in_folder(folder, Options::default());
        let job = next.finished(id).await;
        let found = next.get(job["images"][0]["url"].as_str().expect("an address")).await.body;
        let expected =
            picture(|request| TextToImage { prompt: "a fox".into(), seed: 7, steps: 40, ..request });
        assert!(found == expected, "the picture has other bytes");
        assert!(!next.server.run_checkpoint(id).exists());
    });
}

#[test]
fn listeners_hear_of_every_step_until_the_end() {
    wait(async {
        let running = Running::with(Options { works: false, ..Options::default() });
        let body = json!({ "kind": "txt2img", "request": quick(json!({ "steps": 3 })) });
        let id = running.post("/api/jobs", &body).await.json()["id"].as_u64().expect("a number");
        let path = format!("/api/jobs/{id}/events");
        let listening = running.get(&path);
        let drawing = async {
            let server = std::sync::Arc::clone(&running.server);
            tokio::time::sleep(std::time::Duration::from_millis(200)).await; // the listener is there first
            std::thread::spawn(move || super::worker::run(&server));
        };
        let (heard, ()) = futures_util::future::join(listening, drawing).await; // the stream ends with the job
        assert_eq!(heard.header("content-type"), "text/event-stream");
        let text = String::from_utf8(heard.body).expect("text");
        let events: Vec<(&str, serde_json::Value)> = text
            .split("\n\n")
            .filter_map(|event| event.strip_prefix("event: ")?.split_once("\ndata: "))
            .map(|(name, data)| (name, serde_json::from_str(data).expect("JSON")))
            .collect();
        let steps: Vec<_> = events.iter().filter(|(name, _)| *name == "step").map(|(_, step)| step).collect();
        assert_eq!(steps.iter().map(|step| &step["step"]).collect::<Vec<_>>(), [1, 2, 3]);
        let preview = steps[2]["preview"].as_str().expect("a picture");
        assert!(preview.starts_with("data:image/jpeg;base64,/9j/"), "{preview}");
        let states = events.iter().filter(|(name, _)| *name == "job").map(|(_, job)| &job["state"]);
        assert_eq!(states.collect::<Vec<_>>(), ["queued", "running", "running", "done"], "{text}");
    });
}
