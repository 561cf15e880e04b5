//! Flags of stable-diffusion.cpp, A1111's web UI and diffusers: what each is called here, or why
//! there is none.
//!
//! An unknown flag is looked up here before clap's own message is shown. A flag that this program
//! has must not stand in the table; a test compares both.
//!
//! Sources: `sd-cli --help` of stable-diffusion.cpp (August 2026), `modules/cmd_args.py` of
//! AUTOMATIC1111/stable-diffusion-webui 1.10, the arguments of diffusers'
//! `StableDiffusionPipeline.__call__` and of its example scripts.

/// What to answer to a flag of another program.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Answer {
    /// The same under another name, which may have a value or a command before it.
    CalledHere(&'static str),
    /// It needs no flag, because.
    NotNeeded(&'static str),
    /// There is no such thing, because.
    Unsupported(&'static str),
}
use Answer::{CalledHere, NotNeeded, Unsupported};

/// Several spellings share a row.
const TABLE: &[(&[&str], Answer)] = &[
    // The same thing, by another name.
    (&["--num-inference-steps", "--ddim-steps", "--sample-steps", "--num-steps"], CalledHere("--steps")),
    (&["--cfg", "--scale", "--guidance", "--guidance-scale-value"], CalledHere("--cfg-scale")),
    (&["--sampler-name", "--sample-method", "--sampling", "--solver"], CalledHere("--sampler")),
    (&["--scheduler-type", "--noise-schedule", "--sigma-schedule"], CalledHere("--schedule")),
    (&["--negative", "--neg", "--uncond-prompt", "--neg-prompt"], CalledHere("--negative-prompt")),
    (
        &["--num-images", "--num-images-per-prompt", "--n-samples", "--n-iter", "--count"],
        CalledHere("--batch-count"),
    ),
    (
        &[
            "--model-path",
            "--ckpt",
            "--ckpt-path",
            "--checkpoint-path",
            "--pretrained-model-name-or-path",
            "--model-id",
        ],
        CalledHere("--model"),
    ),
    (&["--diffusion-model"], CalledHere("--model, with a folder or a whole checkpoint")),
    (&["--out", "--outfile", "--output-path", "--save", "--output-file"], CalledHere("--output")),
    (&["--outdir", "--output-dir", "--out-dir", "--output-folder"], CalledHere("--output FOLDER/{seed}.png")),
    (&["--output-begin-idx"], CalledHere("--output with %03d, the number of the picture")),
    (&["--num-threads", "--n-threads", "--cpu-threads"], CalledHere("--threads")),
    (
        &["--dtype", "--torch-dtype", "--no-half", "--upcast-sampling", "--no-half-vae", "--fp16", "--bf16"],
        CalledHere("--precision f32|bf16|bf16x3|mixed"),
    ),
    (&["--denoising-strength", "--denoise"], CalledHere("img2img --strength")),
    (
        &["--init-img", "--init-image", "--input-image", "--image", "--ref-image", "-r", "-i"],
        CalledHere("img2img --image"),
    ),
    (&["--mask-image"], CalledHere("inpaint --mask")),
    (&["--enable-hr", "--hr-scale", "--hires"], CalledHere("--hires-scale FACTOR")),
    (
        &["--upscale-model", "--hr-upscaler", "--realesrgan-models-path", "--esrgan-models-path"],
        CalledHere("--hires-upscaler FILE, or the command `upscale`"),
    ),
    (&["--enable-vae-tiling", "--enable-tiled-vae"], CalledHere("--vae-tiling")),
    (&["--token-merging-ratio"], CalledHere("--tome")),
    (&["--cache-mode", "--cache-option", "--deepcache"], CalledHere("--deep-cache N")),
    (&["--clip-l", "--clip_l"], CalledHere("--text-encoder")),
    (&["--clip-g", "--clip_g"], CalledHere("--text-encoder-2")),
    (&["--crops-coords-top-left"], CalledHere("--crop-coords LEFT,TOP")),
    (&["--aspect-ratio", "--ratio"], CalledHere("--aspect")),
    (&["--refiner-model", "--refiner-checkpoint"], CalledHere("--refiner")),
    (&["--refiner-switch-at", "--denoising-end", "--denoising-start"], CalledHere("--refiner-at")),
    (&["--mode", "-M"], CalledHere("a command: txt2img, img2img, inpaint; `aquatint --help` lists them")),
    (
        &["--prompt-file", "--from-file", "--prompts"],
        CalledHere("--batch FILE, a text of one prompt a line or a manifest"),
    ),
    (&["--preview-interval"], CalledHere("--preview, which shows each step")),
    (
        &["--metadata-format", "--metadata-raw", "--metadata-all", "--metadata-brief"],
        CalledHere("verify PICTURE, or --from-image PICTURE"),
    ),
    (&["--list-devices", "--system-info"], CalledHere("doctor, which says what this machine has")),
    (&["--generator-seed", "--manual-seed"], CalledHere("--seed")),
    (&["--sampler-rng"], CalledHere("--rng")),
    (&["--skip-layers-clip", "--clip-stop-at-last-layers"], CalledHere("--clip-skip")),
    // On by itself.
    (
        &[
            "--diffusion-fa",
            "--fa",
            "--xformers",
            "--opt-sdp-attention",
            "--opt-split-attention",
            "--flash-attn",
        ],
        NotNeeded("attention never stores a whole row of scores"),
    ),
    (
        &["--diffusion-conv-direct", "--vae-conv-direct", "--opt-channelslast"],
        NotNeeded("each convolution takes its fastest form by itself"),
    ),
    (&["--mmap", "--eager-load"], NotNeeded("weights are memory-mapped, and read when they are used")),
    (
        &[
            "--clip-on-cpu",
            "--vae-on-cpu",
            "--control-net-cpu",
            "--cpu",
            "--use-cpu",
            "--device",
            "--backend",
            "--params-backend",
            "--main-device",
        ],
        NotNeeded("all is computed on the CPU"),
    ),
    (
        &[
            "--lowvram",
            "--medvram",
            "--lowram",
            "--offload-to-cpu",
            "--enable-model-cpu-offload",
            "--max-vram",
            "--free-params-immediately",
            "--auto-fit",
            "--stream-layers",
        ],
        NotNeeded("text encoder and UNet are freed as soon as they are done"),
    ),
    (
        &[
            "--skip-torch-cuda-test",
            "--skip-install",
            "--skip-python-version-check",
            "--disable-safe-unpickle",
        ],
        NotNeeded("there is no torch and no Python here"),
    ),
    (&["--color"], NotNeeded("nothing is coloured")),
    // Not here.
    (
        &[
            "--controlnet",
            "--control-net",
            "--control-image",
            "--control-strength",
            "--canny",
            "--control-video",
        ],
        Unsupported("ControlNet is not built in"),
    ),
    (
        &[
            "--ip-adapter",
            "--ip-adapter-image",
            "--ip-adapter-strength",
            "--photo-maker",
            "--pm-id-images-dir",
            "--pm-id-embed-path",
            "--pm-style-strength",
            "--pulid-weights",
            "--pulid-id-embedding",
            "--pulid-id-weight",
        ],
        Unsupported("pictures as prompts (IP-Adapter, PhotoMaker, PuLID) are not built in"),
    ),
    (
        &["--type", "--tensor-type-rules", "--quantize", "--wtype"],
        Unsupported("quantised weights (GGUF, q8_0) are not read; f32, f16 and bf16 are"),
    ),
    (
        &[
            "--t5xxl",
            "--llm",
            "--qwen2vl",
            "--flow-shift",
            "--high-noise-diffusion-model",
            "--uncond-diffusion-model",
            "--img-cfg-scale",
        ],
        Unsupported("the models are Stable Diffusion 1.x, 2.x and XL, not SD 3, Flux, Qwen or Wan"),
    ),
    (
        &["--video-frames", "--fps", "--end-img", "--motion-module", "--audio-vae"],
        Unsupported("pictures only, no video"),
    ),
    (
        &["--slg-scale", "--skip-layers", "--skip-layer-start", "--skip-layer-end"],
        Unsupported("skip-layer guidance belongs to models that are not read here"),
    ),
    (
        &["--circular", "--circularx", "--circulary", "--tiling", "--seamless"],
        Unsupported("pictures that repeat at their edges are not built in"),
    ),
    (
        &["--safety-checker", "--enable-safety-checker", "--disable-safe-checker"],
        Unsupported("no picture is judged"),
    ),
    (
        &["--listen", "--api", "--share", "--port", "--autolaunch", "--nowebui"],
        Unsupported("this command draws a picture and ends"),
    ),
    (&["--disable-image-metadata", "--no-metadata"], Unsupported("every picture says how it was made")),
    (&["--timestep-shift", "--moe-boundary"], Unsupported("flow models are not read here")),
];

/// The answer to a flag of another program, written with `-` or `_`, if the table has it.
pub(crate) fn answer(flag: &str) -> Option<Answer> {
    let flag = flag.split('=').next().unwrap_or(flag);
    let dashed = flag.replace('_', "-");
    let is_it = |name: &&str| **name == *flag || **name == *dashed;
    TABLE.iter().find(|(names, _)| names.iter().any(is_it)).map(|(_, answer)| *answer)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::args::Args;

    /// Every name by which an option of one of the picture commands is known.
    fn own_flags(commands: &[&str]) -> Vec<String> {
        let mut args = Args::command();
        args.build();
        let mut flags = Vec::new();
        for name in commands {
            let command = args.find_subcommand(name).expect("a command of this program");
            for arg in command.get_arguments() {
                flags.extend(arg.get_long().map(|l| format!("--{l}")));
                flags.extend(arg.get_all_aliases().unwrap_or_default().iter().map(|l| format!("--{l}")));
                flags.extend(arg.get_short().map(|s| format!("-{s}")));
            }
        }
        flags
    }

    #[test]
    fn no_flag_of_our_own_is_foreign() {
        let own = own_flags(&["txt2img"]);
        for (names, _) in TABLE {
            for name in *names {
                assert!(!own.iter().any(|flag| flag == name), "{name} is a flag of txt2img");
            }
        }
    }

    #[test]
    fn what_is_named_exists() {
        let own = own_flags(&["txt2img", "img2img", "inpaint"]);
        for (names, answer) in TABLE {
            let CalledHere(text) = answer else { continue };
            for word in text.split([' ', ',']).filter(|word| word.starts_with("--") && *word != "--help`") {
                assert!(own.iter().any(|flag| flag == word), "{names:?}: there is no {word}");
            }
        }
    }

    #[test]
    fn no_name_stands_twice() {
        let mut names: Vec<_> = TABLE.iter().flat_map(|(names, _)| names.iter()).collect();
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn spelling_and_value_do_not_matter() {
        assert_eq!(answer("--num_inference_steps"), Some(CalledHere("--steps")));
        assert_eq!(answer("--device=cuda"), answer("--device"));
        assert_eq!(answer("--nonsense"), None);
    }
}
