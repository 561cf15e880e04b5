//! The VAE in strips against the VAE at once, on every instruction set and in every precision: no
//! seam, whatever the size of the strips.

use aquatint_kernels::{Isa, Precision};
use aquatint_model::networks::vae::{Decoder, Encoder, Moments, Strips, VaeConfig};
use aquatint_model::source::{Checkpoint, VAE};
use aquatint_tensor::Tensor;
use aquatint_tests::path;

/// Numbers that look like latents or a picture: smooth, with some grain.
fn image(shape: [usize; 4], scale: f32) -> Tensor<f32, 4> {
    Tensor::from_fn(shape, |[_, y, x, c]| {
        let (y, x, c) = (y as f32, x as f32, c as f32);
        let grain = ((y * 12.9898 + x * 78.233 + c * 37.7).sin() * 43_758.547).fract();
        scale * ((0.31 * y + c).sin() + (0.23 * x - c).cos() + 0.4 * grain)
    })
}

/// The largest difference.
fn apart(a: &Tensor<f32, 4>, b: &Tensor<f32, 4>) -> f32 {
    assert_eq!(a.shape(), b.shape());
    a.as_slice().iter().zip(b.as_slice()).fold(0.0, |worst: f32, (a, b)| {
        let apart = (a - b).abs();
        if apart.is_nan() { f32::NAN } else { worst.max(apart) }
    })
}

fn logvar(moments: &Moments) -> &Tensor<f32, 4> {
    moments.logvar.as_ref().expect("AutoencoderKL gives a distribution")
}

/// √ of the mean squared difference.
fn distance(a: &Tensor<f32, 4>, b: &Tensor<f32, 4>) -> f64 {
    let squares: f64 = a.as_slice().iter().zip(b.as_slice()).map(|(a, b)| f64::from(a - b).powi(2)).sum();
    (squares / a.len() as f64).sqrt()
}

/// A map of the last level is 184 · 40 · 16 · 4 bytes: 471 kB.
const SIZES: [Strips; 3] = [Strips { bytes: 1 }, Strips { bytes: 150_000 }, Strips { bytes: 10_000_000 }];

fn load(precision: Precision) -> (Decoder, Encoder) {
    let folder = path("pipelines/sd1");
    let config = VaeConfig::open(&VAE.config_path(&folder)).expect("a valid config");
    let file = Checkpoint::open(&VAE.folder(&folder), &VAE).expect("weights");
    let weights = file.weights().for_precision(precision);
    let load = (Decoder::load(&weights, &config), Encoder::load(&weights, &config));
    (load.0.expect("all tensors"), load.1.expect("all tensors"))
}

#[test]
fn strips_leave_no_seam() {
    let (latents, picture) = (image([1, 23, 5, 4], 1.0), image([1, 184, 40, 3], 0.4));
    // Of a level of 8 bits, which is 2/255 of the range −1..1.
    for (precision, level) in [(Precision::F32, 0.02), (Precision::Bf16x3, 0.5)] {
        let bound = level * 2.0 / 255.0;
        let (decoder, encoder) = load(precision);
        // Where there is no unit for them, rounded products are made slowly.
        let isas = if precision == Precision::F32 { Isa::available() } else { vec![Isa::best()] };
        for isa in isas {
            let decoded = decoder.forward(isa, latents.view());
            let encoded = encoder.forward(isa, picture.view());
            for strips in SIZES {
                let found = decoder.forward_in_strips(isa, latents.view(), strips);
                let error = apart(&found, &decoded);
                assert!(error < bound, "decoder, {precision:?}, {isa}, {strips:?}: {error:e}");
                let found = encoder.forward_in_strips(isa, picture.view(), strips);
                let error = apart(&found.mean, &encoded.mean).max(apart(logvar(&found), logvar(&encoded)));
                assert!(error < 4.0 * bound, "encoder, {precision:?}, {isa}, {strips:?}: {error:e}");
            }
        }
    }
}

/// In bf16 a last digit of a norm's mean turns the rounding of some numbers, and the layers behind
/// it of more: strips are as far from f32 as the whole picture is, and no farther.
#[test]
fn strips_in_bf16_are_as_exact_as_the_whole() {
    let (latents, isa) = (image([1, 23, 5, 4], 1.0), Isa::best());
    let exact = load(Precision::F32).0.forward(isa, latents.view());
    let (decoder, _) = load(Precision::Bf16);
    let whole = distance(&decoder.forward(isa, latents.view()), &exact);
    for strips in SIZES {
        let found = distance(&decoder.forward_in_strips(isa, latents.view(), strips), &exact);
        assert!(found < 1.5 * whole, "{strips:?}: {found:e}, the whole {whole:e}");
    }
}
