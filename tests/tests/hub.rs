//! Models from the Hub, by a server on the loopback address: what is asked for, what is left in the
//! cache, and what becomes of a server that breaks off or lies.

use std::path::{Path, PathBuf};
use std::time::Duration;

use aquatint_model::source::VAE;
use aquatint_model::source::hub::{DownloadEvent, HubSettings, Wanted, locate_or_download};
use aquatint_model::tools::random_model::{Architecture, DType, RandomModel};
use aquatint_model::{ErrorKind, LoadOptions, Pipeline, Result};
use aquatint_tests::hub_server::{COMMIT, Fault, HubServer};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

const UNET: &str = "unet/diffusion_pytorch_model.fp16.safetensors";

/// A server of the tiny model as it is published: with a variant in half precision, with pickles
/// and with what is not read; and an empty cache.
struct Fixture {
    server: HubServer,
    model: TempDir,
    home: TempDir,
    settings: HubSettings,
}

fn fixture() -> Fixture {
    let [model, home] = [0, 1].map(|_| tempfile::tempdir().expect("a temporary folder"));
    let folder = model.path().join("tiny");
    let tiny = RandomModel { architecture: Architecture::TINY, dtype: DType::F16, seed: 0 };
    tiny.write(&folder, &mut |_, _| {}).expect("writable");
    let unet = folder.join("unet");
    let plain = unet.join("diffusion_pytorch_model.safetensors");
    std::fs::rename(&plain, folder.join(UNET)).expect("it was just written");
    std::fs::write(plain, "twice as large").expect("writable");
    std::fs::write(unet.join("diffusion_pytorch_model.bin"), "a pickle").expect("writable");
    std::fs::write(folder.join("README.md"), "words").expect("writable");
    std::fs::create_dir(folder.join("safety_checker")).expect("writable");
    std::fs::write(folder.join("safety_checker/model.safetensors"), "large").expect("writable");
    let server = HubServer::of(&folder);
    let settings = HubSettings {
        cache: home.path().join("hub"),
        endpoint: server.endpoint(),
        token: Some("hf_secret".into()),
        offline: false,
        pause: Duration::ZERO,
    };
    Fixture { server, model, home, settings }
}

impl Fixture {
    fn locate(&self, name: &str) -> Result<PathBuf> {
        locate_or_download(name.as_ref(), Wanted::Model, &self.settings, &mut |_| {})
    }

    fn fault(&self, fault: Fault) {
        self.server.set_faults(vec![fault]);
    }

    fn refused(&self, name: &str) -> String {
        let error = self.locate(name).expect_err("it cannot be had");
        assert_eq!(error.kind(), ErrorKind::Model, "{error}");
        error.to_string()
    }

    /// How often the content of a file was asked for, and from where on the last time.
    fn fetched(&self, file: &str) -> (usize, Option<String>) {
        let requests = self.server.requests();
        let contents: Vec<_> =
            requests.iter().filter(|request| request.elsewhere && request.path.ends_with(file)).collect();
        (contents.len(), contents.last().and_then(|request| request.range.clone()))
    }

    fn published(&self, file: &str) -> Vec<u8> {
        std::fs::read(self.model.path().join("tiny").join(file)).expect("it is published")
    }

    fn blobs(&self) -> Vec<String> {
        names(&self.home.path().join("hub/models--org--tiny/blobs"))
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("readable").flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn what_is_needed_of_a_model_comes_into_the_cache_and_is_loaded() {
    let hub = fixture();
    let mut events = Vec::new();
    let path = locate_or_download("org/tiny".as_ref(), Wanted::Model, &hub.settings, &mut |event| {
        events.push(format!("{event:?}"));
    });
    let path = path.expect("it is published");
    assert_eq!(path, hub.settings.cache.join("models--org--tiny/snapshots").join(COMMIT));
    let reference = std::fs::read_to_string(hub.settings.cache.join("models--org--tiny/refs/main"));
    assert_eq!(reference.expect("the branch is known"), COMMIT);
    assert_eq!(std::fs::read(path.join(UNET)).expect("it is there"), hub.published(UNET));
    assert_eq!(names(&path.join("unet")), ["config.json", "diffusion_pytorch_model.fp16.safetensors"]);
    assert!(!path.join("README.md").exists() && !path.join("safety_checker").exists());
    assert!(hub.blobs().iter().all(|name| !name.contains("incomplete")), "{:?}", hub.blobs());
    Pipeline::load(&path, &LoadOptions::default()).expect("it is a model");
    assert!(
        events[0].contains("Planned") && events.last().is_some_and(|event| event == "Done"),
        "{events:?}"
    );
    let requests = hub.server.requests();
    for request in &requests {
        let token = request.authorization.as_deref();
        let expected = (!request.elsewhere).then_some("Bearer hf_secret");
        assert_eq!(token, expected, "the token is for the Hub alone: {request:?}");
    }
    assert_eq!(hub.locate("org/tiny").expect("it is in the cache"), path);
    assert_eq!(hub.server.requests().len(), 0, "what is in the cache is not asked for");
}

#[cfg(unix)]
#[test]
fn the_cache_is_laid_out_as_that_of_hugging_face() {
    let hub = fixture();
    let path = hub.locate("org/tiny").expect("it is published");
    let hash = format!("{:x}", Sha256::digest(hub.published(UNET)));
    let link = std::fs::read_link(path.join(UNET)).expect("a link");
    assert_eq!(link, Path::new("../../../blobs").join(&hash));
    assert_eq!(
        std::fs::read_link(path.join("model_index.json")).expect("a link").parent(),
        Some("../../blobs".as_ref())
    );
    assert!(hub.blobs().contains(&hash));
}

#[test]
fn a_file_and_a_component_come_alone() {
    let hub = fixture();
    let path = hub.locate(&format!("org/tiny:{UNET}")).expect("it is published");
    assert_eq!(std::fs::read(path).expect("it is there"), hub.published(UNET));
    assert_eq!(hub.blobs().len(), 1);
    let vae = locate_or_download("org/tiny".as_ref(), Wanted::Component(&VAE), &hub.settings, &mut |_| {});
    assert_eq!(names(&vae.expect("it is published").join("vae")).len(), 2);
    assert_eq!(hub.blobs().len(), 3);
    assert!(
        hub.refused("org/tiny:no.safetensors").contains("it has no file `no.safetensors`; expected one of")
    );
    assert!(hub.refused("org/other").contains("there is none of this name for the owner of HF_TOKEN"));
}

#[test]
fn a_broken_connection_is_resumed_where_it_broke() {
    let hub = fixture();
    hub.fault(Fault { file: "fp16", drops_after: Some(70_000), times: 5, ..Fault::default() });
    let path = hub.locate("org/tiny").expect("it comes in parts");
    assert_eq!(std::fs::read(path.join(UNET)).expect("it is there"), hub.published(UNET));
    let (count, range) = hub.fetched(UNET);
    assert!(count >= 3, "{count} parts");
    assert!(range.is_some_and(|range| range != "bytes=0-"), "the rest is asked for");
}

#[test]
fn another_run_goes_on_with_what_is_there() {
    let hub = fixture();
    hub.server.set_faults(vec![
        Fault { file: "/large/unet", drops_after: Some(50_000), times: 1, ..Fault::default() },
        Fault { file: "/large/unet", status: Some("403 Forbidden"), times: 1, ..Fault::default() },
    ]);
    hub.refused("org/tiny");
    hub.server.requests();
    let mut known = 0;
    locate_or_download("org/tiny".as_ref(), Wanted::Model, &hub.settings, &mut |event| {
        if let DownloadEvent::Planned { known: bytes, .. } = event {
            known = known.max(bytes);
        }
    })
    .expect("it is published");
    assert!(known >= 50_000, "{known} bytes are there");
    assert_eq!(hub.fetched(UNET), (1, Some("bytes=50000-".to_owned())));
}

#[test]
fn a_server_that_knows_no_ranges_sends_all_again() {
    let hub = fixture();
    hub.server.set_faults(vec![
        Fault { file: "/large/unet", drops_after: Some(50_000), times: 1, ..Fault::default() },
        Fault { file: "/large/unet", ignores_ranges: true, times: 9, ..Fault::default() },
    ]);
    let mut bytes = 0;
    let path = locate_or_download("org/tiny".as_ref(), Wanted::Model, &hub.settings, &mut |event| {
        if let DownloadEvent::Bytes(count) = event {
            bytes += count;
        }
    });
    let path = path.expect("it is published");
    assert_eq!(std::fs::read(path.join(UNET)).expect("it is there"), hub.published(UNET));
    let all: u64 = hub.blobs().iter().map(|name| length(&hub, name)).sum();
    assert_eq!(bytes as u64, all, "what is of no use is subtracted");
}

fn length(hub: &Fixture, blob: &str) -> u64 {
    std::fs::metadata(hub.settings.cache.join("models--org--tiny/blobs").join(blob))
        .expect("it is there")
        .len()
}

#[test]
fn lies_about_lengths_and_contents_are_found() {
    for (fault, expected) in [
        (Fault { promises_more: 1000, ..Fault::default() }, "run this again to go on"),
        (Fault { promises_more: -1000, ..Fault::default() }, "SHA-256"),
        (Fault { damages: true, times: 9, ..Fault::default() }, "its SHA-256 is"),
    ] {
        let hub = fixture();
        hub.fault(Fault { file: UNET, ..fault.clone() });
        let message = hub.refused("org/tiny");
        assert!(message.contains(expected), "{fault:?}: {message}");
        assert!(!hub.settings.cache.join("models--org--tiny/refs").exists(), "{fault:?}");
        hub.server.set_faults(Vec::new());
        hub.locate("org/tiny").expect("the server is honest again");
    }
}

#[test]
fn what_is_damaged_on_the_disk_comes_anew() {
    let hub = fixture();
    hub.fault(Fault { file: "/large/unet", status: Some("403 Forbidden"), times: 1, ..Fault::default() });
    hub.refused("org/tiny");
    let hash = format!("{:x}", Sha256::digest(hub.published(UNET)));
    let incomplete = hub.settings.cache.join("models--org--tiny/blobs").join(format!("{hash}.incomplete"));
    std::fs::write(&incomplete, vec![7; 30_000]).expect("writable");
    hub.server.requests();
    let path = hub.locate("org/tiny").expect("it is published");
    assert_eq!(std::fs::read(path.join(UNET)).expect("it is there"), hub.published(UNET));
    assert_eq!(hub.fetched(UNET).0, 2, "the rest, and then all");
}

#[test]
fn a_busy_server_is_asked_again_and_a_closed_door_is_not() {
    let hub = fixture();
    let busy = "429 Too Many Requests";
    hub.fault(Fault {
        file: "/api/",
        status: Some(busy),
        headers: "Retry-After: 0\r\n",
        times: 3,
        ..Fault::default()
    });
    hub.locate("org/tiny").expect("the fourth time");
    for (status, headers, expected) in [
        ("403 Forbidden", "X-Error-Code: GatedRepo\r\n", "its owner asks for agreement"),
        ("404 Not Found", "X-Error-Code: RevisionNotFound\r\n", "it has no revision `main`"),
        ("401 Unauthorized", "", "there is none of this name"),
        ("418 I'm a teapot", "", "the server says 418"),
        ("503 Service Unavailable", "Retry-After: 0\r\n", "run this again"),
    ] {
        let hub = fixture();
        hub.fault(Fault { file: "/api/", status: Some(status), headers, times: 99, ..Fault::default() });
        let message = hub.refused("org/tiny");
        assert!(message.contains(expected), "{status}: {message}");
        let asked = hub.server.requests().len();
        assert_eq!(asked > 1, status.starts_with('5'), "{status}: asked {asked} times");
    }
}

#[test]
fn another_kind_of_model_is_refused_before_its_weights_come() {
    let hub = fixture();
    let folder = hub.model.path().join("tiny");
    let index = std::fs::read_to_string(folder.join("model_index.json")).expect("it is there");
    std::fs::write(folder.join("model_index.json"), index.replace("StableDiffusionPipeline", "FluxPipeline"))
        .expect("writable");
    let server = HubServer::of(&folder);
    let settings = HubSettings { endpoint: server.endpoint(), ..hub.settings.clone() };
    let found = locate_or_download("org/tiny".as_ref(), Wanted::Model, &settings, &mut |_| {});
    let message = found.expect_err("it is another kind").to_string();
    assert!(message.contains("FluxPipeline"), "{message}");
    assert!(server.requests().iter().all(|request| !request.elsewhere));
}

#[test]
fn offline_no_server_is_asked() {
    let hub = fixture();
    let settings = HubSettings { offline: true, ..hub.settings.clone() };
    let found = locate_or_download("org/tiny".as_ref(), Wanted::Model, &settings, &mut |_| {});
    assert!(found.expect_err("it is not there").to_string().contains("HF_HUB_OFFLINE is set"));
    assert_eq!(hub.server.requests().len(), 0);
}
