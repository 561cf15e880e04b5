//! OpenAI's interface; its own package is asked by `tests/clients/`.

use aquatint_model::ImageFile;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use serde_json::{Value, json};

use super::{Answer, Options, Running, request, wait};

const MORE: [(&str, u64); 2] = [("seed", 7), ("steps", 2)];

fn generation(more: Value) -> Value {
    let mut body = json!({ "prompt": "a fox", "size": "64x64", "response_format": "b64_json" });
    let fields = body.as_object_mut().expect("an object");
    fields.extend(MORE.map(|(name, value)| (name.to_owned(), value.into())));
    fields.extend(more.as_object().expect("an object").clone());
    body
}

fn picture(answer: &Answer) -> Vec<u8> {
    let body = answer.json();
    let data = body["data"][0]["b64_json"].as_str().unwrap_or_else(|| panic!("{body}"));
    base64::decode(data).expect("base64")
}

/// A form of parts with names.
fn form(parts: &[(&str, &[u8])]) -> Request<Body> {
    let mut body = Vec::new();
    for (name, content) in parts {
        let file = if ["image", "mask"].contains(name) { "; filename=\"a.png\"" } else { "" };
        body.extend(format!("--x\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n\r\n").bytes());
        body.extend(*content);
        body.extend(b"\r\n");
    }
    body.extend(b"--x--\r\n");
    let request =
        request("POST", "/v1/images/edits").header("content-type", "multipart/form-data; boundary=x");
    request.body(Body::from(body)).expect("a request")
}

#[test]
fn a_picture_comes_as_bytes_or_as_an_address() {
    wait(async {
        let running = Running::start();
        let bytes = picture(&running.post("/v1/images/generations", &generation(json!({}))).await);
        let linked = generation(json!({ "response_format": "url", "model": "dall-e-3" }));
        let linked = running.post("/v1/images/generations", &linked).await.json();
        let url = linked["data"][0]["url"].as_str().expect("an address");
        let path = url.strip_prefix("http://127.0.0.1:7860").expect("of this server");
        assert!(running.get(path).await.body == bytes);
        let webp =
            running.post("/v1/images/generations", &generation(json!({ "output_format": "webp" }))).await;
        let pixels = |bytes: &[u8]| ImageFile::from_bytes(bytes).expect("a picture").image.pixels().to_vec();
        assert!(pixels(&picture(&webp)) == pixels(&bytes));
    });
}

#[test]
fn an_edit_keeps_what_is_not_transparent() {
    wait(async {
        let running = Running::start();
        let fox = picture(&running.post("/v1/images/generations", &generation(json!({}))).await);
        let mut mask = image::RgbaImage::from_pixel(64, 64, image::Rgba([0, 0, 0, 255]));
        (32..64).for_each(|x| (0..64).for_each(|y| mask.put_pixel(x, y, image::Rgba([0; 4]))));
        let mut png = std::io::Cursor::new(Vec::new());
        mask.write_to(&mut png, image::ImageFormat::Png).expect("a picture");
        let settings: [(&str, &[u8]); 5] = [
            ("prompt", b"a cat"),
            ("seed", b"7"),
            ("steps", b"2"),
            ("mask_blur", b"0"),
            ("response_format", b"b64_json"),
        ];
        let parts = [&[("image", &fox[..]), ("mask", png.get_ref())], &settings[..]].concat();
        let edited = picture(&running.send(form(&parts)).await);
        let [before, after] = [&fox, &edited].map(|png| ImageFile::from_bytes(png).expect("a picture").image);
        let left = |picture: &aquatint_model::Image| {
            picture.pixels().chunks(3 * 64).flat_map(|row| row[..3 * 24].to_vec()).collect::<Vec<_>>()
        };
        assert!(left(&before) == left(&after) && before.pixels() != after.pixels());
        let opaque = [&[("image", &fox[..]), ("mask", &fox[..])], &settings[..]].concat();
        let refused = running.send(form(&opaque)).await;
        assert_eq!(
            (refused.status, &refused.json()["error"]["param"]),
            (StatusCode::BAD_REQUEST, &json!("mask"))
        );
    });
}

#[test]
fn refusals_have_openais_form() {
    wait(async {
        let running = Running::with(Options { works: false, ..Options::default() });
        for (body, param, message) in [
            (json!({ "n": 11 }), json!("n"), "from 1 to 10"),
            (json!({ "size": "64" }), json!("size"), "512x512"),
            (json!({ "quality": "hd" }), json!("quality"), "auto or standard"),
            (json!({ "model": "none" }), json!(null), "no model `none`"),
            (json!({ "prompt": null }), json!("prompt"), "missing"),
            (json!({ "stream": true }), json!("stream"), "not supported"),
        ] {
            let answer = running.post("/v1/images/generations", &generation(body.clone())).await;
            let error = answer.json()["error"].clone();
            assert_eq!(
                (answer.status, &error["param"]),
                (StatusCode::BAD_REQUEST, &param),
                "{body}: {error}"
            );
            assert_eq!(error["type"], "invalid_request_error");
            assert!(error["message"].as_str().is_some_and(|text| text.contains(message)), "{body}: {error}");
        }
        assert_eq!(running.get("/v1/models/none").await.json()["error"]["type"], "invalid_request_error");
        assert_eq!(running.get("/v1/models").await.json()["data"][0]["id"], "embedded");
    });
}
