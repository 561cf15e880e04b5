//! What strangers' bytes go through, a function for each way in: none of it may panic, hang or
//! fill the memory, whatever it says.
//!
//! The functions run on any toolchain over the committed inputs of `fuzz/corpus` (the test
//! `corpus`), and under libFuzzer, which looks for new ones (`just fuzz TARGET MINUTES`). An
//! assertion here is a promise of the library. Read next: `fuzz/main.rs`.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use aquatint_model::generate::api_request::ApiRequest;
use aquatint_model::image::metadata::{self, Parameters, exif};
use aquatint_model::networks::{clip, unet, vae};
use aquatint_model::samplers::{self, Sampler, SchedulerConfig};
use aquatint_model::source::config::ConfigFile;
use aquatint_model::source::{Checkpoint, Schema, TensorFile};
use aquatint_model::text::prompt::{chunks, emphasis};
use aquatint_model::text::tokenizer::Tokenizer;
use aquatint_model::{
    EMBEDDED, Generator, ImageFile, Mask, ResizeMode, RunCheckpoint, SamplerChoice, SamplerKind, TextToImage,
};

/// Where bytes go.
pub type Target = fn(&[u8]);

/// The targets by their names.
pub const TARGETS: [(&str, Target); 12] = [
    ("api_request", api_request),
    ("config", config),
    ("image", image),
    ("infotext", infotext),
    ("latents", latents),
    ("metadata_exif", metadata_exif),
    ("metadata_png", metadata_png),
    ("prompt", prompt),
    ("run_checkpoint", run_checkpoint),
    ("scheduler", scheduler),
    ("tensors", tensors),
    ("tokenizer", tokenizer),
];

/// Numbers of layers beyond which a network is not built: a fuzzer would only find that many take
/// long.
const MOST_LAYERS: usize = 64;

/// Pixels beyond which an image is only decoded.
const LARGEST_AREA: usize = 1 << 16;

/// A file of this process with these bytes; each call writes it anew.
fn file(name: &str, bytes: &[u8]) -> PathBuf {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| tempfile::tempdir().expect("a temporary folder"));
    let thread = format!("{:?}", std::thread::current().id()).replace(['(', ')'], "");
    let folder = folder.path().join(thread);
    std::fs::create_dir_all(&folder).expect("a temporary folder");
    let path = folder.join(name);
    std::fs::write(&path, bytes).expect("a temporary file");
    path
}

/// A line of a manifest.
pub fn api_request(bytes: &[u8]) {
    for line in bytes.split(|&byte| byte == b'\n') {
        if let Ok(request) = ApiRequest::parse(line) {
            let _ = request.settings.request(None, TextToImage::default());
        }
    }
}

/// The first byte chooses the network, the rest is its `config.json`.
pub fn config(bytes: &[u8]) {
    let Some((kind, text)) = bytes.split_first() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let Ok(config) = ConfigFile::parse(Path::new("config.json"), text) else { return };
    let schema = Schema::new();
    match kind % 3 {
        0 => {
            let Ok(config) = unet::UNetConfig::from_config(config) else { return };
            let layers: usize = config.layers_per_block.iter().sum();
            if layers * config.block_out_channels.len() <= MOST_LAYERS {
                let _ = unet::UNet2DConditionModel::load(&schema.weights(), &config);
            }
        }
        1 => {
            let Ok(config) = vae::VaeConfig::from_config(config) else { return };
            let layers: usize = match &config.class {
                vae::VaeClass::Kl(config) => config.layers_per_block * config.block_out_channels.len(),
                vae::VaeClass::Tiny(config) => {
                    config.num_encoder_blocks.iter().chain(&config.num_decoder_blocks).sum()
                }
            };
            if layers <= MOST_LAYERS {
                let _ = vae::Decoder::load(&schema.weights(), &config);
                let _ = vae::Encoder::load(&schema.weights(), &config);
            }
        }
        _ => {
            let Ok(config) = clip::ClipTextConfig::from_config(config) else { return };
            if config.num_hidden_layers <= MOST_LAYERS {
                let _ = clip::ClipTextModel::load(&schema.weights(), &config);
            }
        }
    }
}

/// A PNG, JPEG or WebP file, and what is done with images and masks.
pub fn image(bytes: &[u8]) {
    let Ok(file) = ImageFile::from_bytes(bytes) else { return };
    let image = &file.image;
    if image.width() * image.height() > LARGEST_AREA {
        return;
    }
    for mode in [ResizeMode::Crop, ResizeMode::Fit, ResizeMode::Stretch] {
        let resized = image.resized(24, 16, mode);
        assert_eq!((resized.width(), resized.height()), (24, 16));
    }
    for mask in file.transparent.iter().chain([&Mask::from_picture(image)]) {
        if let Ok(region) = mask.region(5, 64, 128) {
            let _ = (mask.cropped(region), image.cropped(region));
        }
        assert!(mask.composite(image, image, 4) == *image, "an image laid over itself");
    }
}

/// The text inside an image.
pub fn infotext(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let parameters = Parameters::parse(&text);
    let _ = parameters.apply(&mut TextToImage::default());
    let _ = (parameters.precision(), parameters.ignored().count());
    // The form cannot hold everything, so what comes back may differ.
    let again = Parameters::parse(&parameters.to_string());
    let _ = again.differences(&parameters).count();
}

/// Latents.
pub fn latents(bytes: &[u8]) {
    if let Ok(latents) = vae::open_latents(file("latents.safetensors", bytes)) {
        assert_eq!(latents.as_slice().len(), latents.shape().iter().product::<usize>());
    }
}

/// The text of a JPEG or WebP file.
pub fn metadata_exif(bytes: &[u8]) {
    if let Ok(Some(text)) = metadata::read(&file("image.jpg", bytes)) {
        let _ = exif::encode(&text);
        infotext(text.as_bytes());
    }
}

/// The text of a PNG file.
pub fn metadata_png(bytes: &[u8]) {
    if let Ok(Some(text)) = metadata::png::read(&file("image.png", bytes)) {
        infotext(text.as_bytes());
    }
}

/// A prompt, read with the embedded model's small vocabulary.
pub fn prompt(bytes: &[u8]) {
    static TOKENIZER: OnceLock<Tokenizer> = OnceLock::new();
    let tokenizer = TOKENIZER.get_or_init(|| {
        Tokenizer::load(&Path::new(EMBEDDED).join("tokenizer")).expect("the embedded model has a tokenizer")
    });
    let text = String::from_utf8_lossy(bytes);
    let pieces = emphasis::parse(&text);
    assert!(!pieces.is_empty(), "every text has a meaning");
    if let Ok(chunks) = chunks::split(&pieces, tokenizer) {
        assert!(!chunks.is_empty() && chunks.len() <= chunks::MOST_CHUNKS);
        for chunk in chunks {
            let lengths = [chunk.ids.len(), chunk.weights.len()];
            assert_eq!(lengths, [tokenizer.max_length(); 2]);
        }
    }
    let encoding = tokenizer.encode(&text).expect("any text has tokens");
    assert_eq!(encoding.ids.len(), tokenizer.max_length());
}

/// A run that was ended half way. What is saved again holds as many steps.
pub fn run_checkpoint(bytes: &[u8]) {
    let Ok(checkpoint) = RunCheckpoint::open(file("run.ckpt", bytes)) else { return };
    let (done, steps) = checkpoint.steps();
    assert!((1..=steps).contains(&done), "{done} of {steps} steps");
    (0..=done).for_each(|step| drop(checkpoint.output(step)));
    let _ = checkpoint.check(&checkpoint.parameters());
    infotext(checkpoint.parameters().to_string().as_bytes());
    let copy = file("copy.ckpt", b"");
    checkpoint.save(&copy).expect("the folder is writable");
    assert_eq!(RunCheckpoint::open(&copy).expect("it was saved").steps(), (done, steps));
}

/// Two bytes choose a sampler and a number of steps, the rest is a `scheduler_config.json`; a whole
/// walk is made with every schedule.
pub fn scheduler(bytes: &[u8]) {
    let [kind, steps, text @ ..] = bytes else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let Ok(config) = SchedulerConfig::from_json(text, "scheduler_config.json") else { return };
    let _ = config.resolve(SamplerChoice::default());
    let kinds: Vec<SamplerKind> = SamplerKind::all().collect();
    let (kind, steps) = (kinds[usize::from(*kind) % kinds.len()], usize::from(*steps) % 40);
    for schedule in std::iter::once(None).chain(kind.schedules().iter().copied().map(Some)) {
        let choice = SamplerChoice { kind: Some(kind), schedule };
        if let Ok(mut sampler) = samplers::build(&config, choice, steps) {
            walk(&mut *sampler);
        }
    }
}

fn walk(sampler: &mut dyn Sampler) {
    let mut rng = Generator::new(1);
    let mut sample = [0.5, -0.25, 1.0, 0.0].map(|x: f32| x * sampler.init_noise_sigma());
    for call in 0..sampler.timesteps().len() {
        let mut input = sample;
        sampler.scale_model_input(&mut input, call);
        sampler.step(&[0.1, -0.2, 0.3, 0.0], call, &mut sample, &mut rng);
        let _ = sampler.noise_level(call);
    }
    assert!(sample.iter().all(|x| x.is_finite()), "{sample:?}");
}

/// A file of weights: safetensors or what `torch.save` writes.
pub fn tensors(bytes: &[u8]) {
    let path = file("weights.safetensors", bytes);
    if let Ok(file) = TensorFile::open(&path) {
        for tensor in file.tensors() {
            if tensor.len() <= LARGEST_AREA {
                let _ = tensor.to_f32();
            }
        }
    }
    if let Ok(checkpoint) = Checkpoint::from_files(std::slice::from_ref(&path)) {
        let weights = checkpoint.weights();
        let _ = (weights.vector("v", 2), weights.table("t", [2, 2]), weights.linear("l", [2, 2]));
        let _ = (weights.conv("c", [2, 2, 3, 3]), weights.upsample_conv("u", 2));
    }
    let _ = aquatint_model::tools::inspect::inspect(&path);
}

/// The files of a tokenizer's folder, 0xFF between them.
pub fn tokenizer(bytes: &[u8]) {
    const NAMES: [&str; 6] = [
        "tokenizer.json",
        "vocab.json",
        "merges.txt",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
    ];
    let mut parts = bytes.splitn(NAMES.len(), |&byte| byte == 0xff);
    let folder = file("tokenizer_config.json", b"");
    let folder = folder.parent().expect("a file has a folder");
    for name in NAMES {
        let path = folder.join(name);
        match parts.next() {
            Some(part) if !part.is_empty() => std::fs::write(path, part).expect("a temporary file"),
            _ => drop(std::fs::remove_file(path)), // it may not exist
        }
    }
    let Ok(tokenizer) = Tokenizer::load(folder) else { return };
    for text in ["", "a fox, in the snow!", "Ünï 🦊 <|startoftext|> aaaaaaaaaaaaaaa", "  a b  ab abc"] {
        if let Ok(encoding) = tokenizer.encode(text) {
            assert_eq!(encoding.ids.len(), tokenizer.max_length());
        }
        let _ = tokenizer.tokens(text);
    }
    let _ = chunks::split(&emphasis::parse("a (b:1.2), c BREAK d"), &tokenizer);
}
