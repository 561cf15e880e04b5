//! `aquatint doctor`: what this machine has, what of it is used and why, and whether it computes
//! right. The answer to "illegal instruction", "black picture" and "out of memory".
//!
//! Each instruction set is tried in a process of its own, so that one that this CPU only pretends
//! to have (an emulator, a virtual machine that hides half of it) is named and does not end the
//! others.

use std::process::{Command, Stdio};
use std::time::Instant;

use aquatint_kernels::attention::{self, Attention};
use aquatint_kernels::conv2d::{self, ConvWeights, Geometry};
use aquatint_kernels::gemm::{self, Epilogue, Matrix, PackedWeights};
use aquatint_kernels::norm::group::{self, Activation, GroupNorm};
use aquatint_kernels::{Bf16Gain, Isa, Precision};
use aquatint_model::source::hub::HubSettings;
use aquatint_model::source::library::cached_models;
use aquatint_model::{Error, Precisions};
use aquatint_tensor::{Tensor, View};
use clap::Args;

use crate::flags::library::LibraryFlags;
use crate::platform::{threads, topology};
use crate::run::memory;

#[derive(Args)]
pub(crate) struct Doctor {
    #[command(flatten)]
    library: LibraryFlags,

    /// Only test the instruction set that AQUATINT_ISA names.
    #[arg(long, hide = true)]
    self_test: bool,
}

/// Environment variables that change what the program does.
const VARIABLES: [&str; 9] = [
    "AQUATINT_ISA",
    "AQUATINT_MEMORY",
    "AQUATINT_MODELS",
    "HF_ENDPOINT",
    "HF_HUB_OFFLINE",
    "RAYON_NUM_THREADS",
    "HF_HOME",
    "HF_HUB_CACHE",
    "NO_COLOR",
];

/// Prints the report.
///
/// # Errors
/// `Run` if an instruction set does not compute what it should.
pub(crate) fn run(args: &Doctor) -> Result<(), Error> {
    if args.self_test {
        return self_test(Isa::from_env().map_err(Error::request)?);
    }
    println!(
        "aquatint {} on {}, {}",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::OS,
        std::env::consts::ARCH
    );
    cpu()?;
    memory()?;
    models(&args.library)?;
    for name in VARIABLES {
        if let Some(value) = std::env::var_os(name) {
            println!("{name}: {}", value.to_string_lossy());
        }
    }
    let failed = Isa::all().into_iter().filter(|isa| !test_apart(*isa)).count();
    match failed {
        0 => Ok(()),
        count => Err(Error::run(format_args!(
            "{count} instruction sets do not compute right here; AQUATINT_ISA chooses one that does, and a report with these lines \
             is welcome"
        ))),
    }
}

/// The processor, and what of it is used.
fn cpu() -> Result<(), Error> {
    println!("CPU: {}", topology::cpu_name());
    println!("  features: {}", features());
    let isa = Isa::from_env().map_err(Error::request)?;
    let forced =
        if isa.name() == Isa::best().name() { "the fastest that it has" } else { "as AQUATINT_ISA says" };
    println!("  instruction set: {}, {forced}", isa.name());
    let why = match isa.bf16_gain() {
        Bf16Gain::None => "it has no unit for bf16, so f32 is faster",
        Bf16Gain::Tiles => "its tiles multiply bf16 many times as fast",
        _ => "it multiplies bf16 twice as fast, and 3×3 convolutions in f32 by filtering",
    };
    println!("  --precision auto: {}, because {why}", Precisions::auto(isa));
    let [machine, allowed] = topology::logical_cpus();
    let cores = topology::physical_cores();
    println!("  threads: {cores} by default, one for each core; the machine has {machine} logical CPUs");
    if allowed < machine {
        println!("    this process may run on {allowed} of them (affinity, cpuset)");
    }
    if let Some(quota) = topology::cpu_quota() {
        println!("    a control group gives the time of {quota:.1} CPUs");
    }
    for cache in topology::caches() {
        println!("  {}: {} KiB, shared by {} CPUs", cache.level, cache.bytes / 1024, cache.shared_by);
    }
    Ok(())
}

/// The features that kernels use, and which of them there are.
fn features() -> String {
    let mut found: Vec<&str> = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        macro_rules! detect {
            ($($name:tt),*) => { $(if std::arch::is_x86_feature_detected!($name) { found.push($name); })* };
        }
        detect!(
            "sse2",
            "sse4.2",
            "avx",
            "avx2",
            "fma",
            "f16c",
            "avx512f",
            "avx512bw",
            "avx512dq",
            "avx512vl",
            "avx512bf16"
        );
        if Isa::named("amx").is_ok() {
            found.push("amx-bf16");
        }
    }
    #[cfg(target_arch = "aarch64")]
    found.push("neon");
    found.join(" ")
}

/// Memory of the machine, and what of it is free for this process.
fn memory() -> Result<(), Error> {
    match (memory::total(), memory::free()?) {
        (Some(total), Some(free)) => {
            println!(
                "memory: {}, of which {} are free here",
                memory::gigabytes(total),
                memory::gigabytes(free)
            );
        }
        _ => println!("memory: this system does not say"),
    }
    if let Some(free) = memory::free_in_cgroups() {
        println!("  a control group leaves {}", memory::gigabytes(free));
    }
    Ok(())
}

/// Where models are looked for, and how many there are.
fn models(library: &LibraryFlags) -> Result<(), Error> {
    let settings = HubSettings::from_env()?;
    let models = [cached_models(&settings), library.open()?.entries()].concat();
    let usable = models.iter().filter(|model| model.kind.is_ok()).count();
    println!("models: {usable} that can be used, of {}", models.len());
    println!("  Hugging Face's cache: {}", settings.cache.display());
    Ok(())
}

/// Tests an instruction set in a process of its own, and tells the outcome.
fn test_apart(isa: Isa) -> bool {
    let start = Instant::now();
    let outcome = match std::env::current_exe()
        .ok()
        .filter(|path| path.file_stem().is_some_and(|n| n == "aquatint"))
    {
        // Inside of another program, as Python's package is: in this process.
        None => self_test(isa).map_err(|error| error.to_string()),
        Some(program) => {
            let mut command = Command::new(program);
            command.args(["doctor", "--self-test"]).env("AQUATINT_ISA", isa.name());
            match command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).output() {
                Ok(output) if output.status.success() => Ok(()),
                Ok(output) if output.status.code().is_none() => Err(format!("ended by {}", output.status)),
                Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
                Err(error) => Err(error.to_string()),
            }
        }
    };
    let seconds = start.elapsed().as_secs_f64();
    match &outcome {
        Ok(()) => println!("self-test of {}: right ({seconds:.1} s)", isa.name()),
        Err(reason) => println!("self-test of {}: WRONG: {reason}", isa.name()),
    }
    outcome.is_ok()
}

/// Products, a convolution, attention and a norm of small sizes in every precision, beside their
/// definitions in `f64`.
///
/// # Errors
/// `Run` with the kernel that is too far from its definition.
fn self_test(isa: Isa) -> Result<(), Error> {
    threads::start(None)?;
    for precision in Precision::ALL {
        // Largest relative errors of sums of a hundred terms and more, with room.
        let bound = match precision {
            Precision::F32 => 1e-5,
            Precision::Bf16x3 => 2e-4,
            Precision::Bf16 => 3e-2,
        };
        let check = |kernel: &str, found: &[f32], expected: &[f32]| {
            let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
            let distance = norm(&mut found.iter().zip(expected).map(|(a, b)| f64::from(a - b)));
            let error = distance / norm(&mut expected.iter().map(|&x| f64::from(x)));
            match error < bound && found.len() == expected.len() {
                true => Ok(()),
                false => Err(Error::run(format_args!(
                    "{kernel} in {precision} on {}: a relative error of {error:.1e}, expected below {bound:.0e}",
                    isa.name()
                ))),
            }
        };
        let numbers = |i: usize| ((i * 7919 + 13) % 1009) as f32 / 504.5 - 1.0;
        let tensor = |shape: &[usize]| (0..shape.iter().product()).map(numbers).collect::<Vec<f32>>();

        let (rows, depth, columns) = (70, 200, 90);
        let (a, w) = (tensor(&[rows, depth]), tensor(&[columns, depth, 1]));
        let weights = View::from_slice([columns, depth], &w);
        let mut out = vec![0.0f32; rows * columns];
        let packed = PackedWeights::pack_for(precision, weights);
        gemm::product(
            isa,
            rows,
            &Matrix::new(View::from_slice([rows, depth], &a)),
            &packed,
            &Epilogue::default(),
            &mut out,
        );
        let expected = gemm::reference::product(View::from_slice([rows, depth], &a), weights);
        check("a matrix product", &out, expected.as_slice())?;

        let (x, w) = (tensor(&[1, 20, 18, 40]), tensor(&[50, 40, 3, 3]));
        let (x, w) = (View::from_slice([1, 20, 18, 40], &x), View::from_slice([50, 40, 3, 3], &w));
        let packed = ConvWeights::pack_for(precision, w);
        let found: Tensor<f32, 4> = conv2d::conv2d(isa, x, &packed, Geometry::same(3), Epilogue::default());
        let expected = conv2d::reference::conv2d(x, w, Geometry::same(3), 1);
        check("a convolution", found.as_slice(), expected.as_slice())?;

        let (q, k) = (tensor(&[1, 100, 2, 40]), tensor(&[1, 150, 2, 40]));
        let v: Vec<f32> = k.iter().rev().copied().collect();
        let [q, k, v] = [(100, &q), (150, &k), (150, &v)].map(|(n, x)| View::from_slice([1, n, 2, 40], x));
        let settings = Attention { precision, ..Attention::new(40) };
        let found = attention::attention(isa, q, k, v, settings);
        let expected = attention::reference::attention(q, k, v, settings);
        check("attention", found.as_slice(), expected.as_slice())?;

        let (weight, bias) = (tensor(&[40]), tensor(&[40]));
        let norm = GroupNorm {
            num_groups: 8,
            eps: 1e-5,
            weight: &weight,
            bias: &bias,
            activation: Activation::Silu,
        };
        let found = group::group_norm(isa, x, norm);
        let expected = group::reference::group_norm(x, norm);
        check("a group norm", found.as_slice(), expected.as_slice())?;
    }
    Ok(())
}
