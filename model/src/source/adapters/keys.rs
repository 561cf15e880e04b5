//! The tensors of an adapter: the layer of each, and the part that it plays.
//!
//! ```text
//! lora_unet_conv_in.lora_down.weight   →  (lora_unet_conv_in, Down)
//! unet.conv_in.lora_A.weight           →  (unet.conv_in, Down)
//! ```

/// Which part a tensor plays in an adapter of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// LoRA's first factor, A: `[rank, in]`.
    Down,
    /// LoRA's second factor, B: `[out, rank]`.
    Up,
    /// A kernel between the two: `[rank, rank, kh, kw]`.
    Mid,
    /// The factor is `alpha / rank`.
    Alpha,
    /// DoRA's norms.
    Magnitude,
    /// LoHa's factors and kernels, of the first and of the second product.
    HadaA(u8),
    /// See [`Role::HadaA`].
    HadaB(u8),
    /// See [`Role::HadaA`].
    HadaKernel(u8),
    /// LoKr's two matrices: whole.
    Kron(u8),
    /// As two factors.
    KronA(u8),
    /// See [`Role::KronA`].
    KronB(u8),
    /// LoKr's kernel.
    KronKernel,
    /// A difference of weights.
    Diff,
    /// A difference of biases.
    DiffBias,
    /// (IA)³'s factors.
    Scale,
    /// Whether those are of the inputs.
    OnInput,
}

/// Ends of names, longer ones first where one ends in another.
const ENDS: [(&str, Role); 41] = [
    (".lora_down.weight", Role::Down),
    (".lora_up.weight", Role::Up),
    (".lora_mid.weight", Role::Mid),
    (".lora_linear_layer.down.weight", Role::Down),
    (".lora_linear_layer.up.weight", Role::Up),
    (".lora.down.weight", Role::Down),
    (".lora.up.weight", Role::Up),
    ("_lora.down.weight", Role::Down),
    ("_lora.up.weight", Role::Up),
    (".lora_A.default.weight", Role::Down),
    (".lora_B.default.weight", Role::Up),
    (".lora_A.weight", Role::Down),
    (".lora_B.weight", Role::Up),
    (".lora_magnitude_vector.default.weight", Role::Magnitude),
    (".lora_magnitude_vector.weight", Role::Magnitude),
    (".lora_magnitude_vector", Role::Magnitude),
    (".dora_scale", Role::Magnitude),
    (".alpha", Role::Alpha),
    (".hada_w1_a", Role::HadaA(1)),
    (".hada_w1_b", Role::HadaB(1)),
    (".hada_t1", Role::HadaKernel(1)),
    (".hada_w2_a", Role::HadaA(2)),
    (".hada_w2_b", Role::HadaB(2)),
    (".hada_t2", Role::HadaKernel(2)),
    (".lokr_w1_a", Role::KronA(1)),
    (".lokr_w1_b", Role::KronB(1)),
    (".lokr_w1", Role::Kron(1)),
    (".lokr_w2_a", Role::KronA(2)),
    (".lokr_w2_b", Role::KronB(2)),
    (".lokr_w2", Role::Kron(2)),
    (".lokr_t2", Role::KronKernel),
    (".diff", Role::Diff),
    (".diff_b", Role::DiffBias),
    (".w_norm", Role::Diff),
    (".b_norm", Role::DiffBias),
    (".lora_B.bias", Role::DiffBias),
    (".on_input", Role::OnInput),
    (":down", Role::Down),
    (":up", Role::Up),
    ("_lora.alpha", Role::Alpha),
    (".weight", Role::Scale),
];

/// Methods that are known and not understood, by what their names hold.
const OTHER_METHODS: [(&str, &str); 7] = [
    (".oft_blocks", "OFT"),
    (".oft_diag", "OFT"),
    (".oft_R.", "OFT"),
    (".boft_R", "BOFT"),
    (".a1.weight", "GLoRA"),
    (".ia3_l", "PEFT's (IA)³"),
    (".vera_lambda", "VeRA"),
];

/// The layer's name and the tensor's part; `None` if the name has no known end.
pub fn split(name: &str) -> Option<(&str, Role)> {
    ENDS.iter().find_map(|&(end, role)| Some((name.strip_suffix(end)?, role)))
}

/// The method that a name belongs to, if it is one that is known and not understood.
pub fn other_method(name: &str) -> Option<&'static str> {
    OTHER_METHODS.iter().find(|(part, _)| name.contains(part)).map(|&(_, method)| method)
}

/// The family that a name belongs to, if it is one that is recognised by names. `xl`: whether the
/// model is Stable Diffusion XL, whose names are then no other's.
pub fn other_family(name: &str, xl: bool) -> Option<&'static str> {
    const XL: &str = "Stable Diffusion XL";
    const FAMILIES: [(&str, &str); 9] = [
        ("lora_te2_", XL),
        ("text_encoder_2.", XL),
        ("input_blocks_4_1_transformer_blocks_1_", XL),
        ("down_blocks_1_attentions_0_transformer_blocks_1_", XL),
        ("down_blocks.1.attentions.0.transformer_blocks.1.", XL),
        ("double_blocks", "Flux"),
        ("single_transformer_blocks", "Flux"),
        ("joint_blocks", "Stable Diffusion 3"),
        ("transformer.", "a transformer such as Flux or Stable Diffusion 3"),
    ];
    let mut others = FAMILIES.iter().filter(|(_, family)| !xl || *family != XL);
    let found = others.find(|(part, _)| match *part {
        "transformer." => name.starts_with(part),
        _ => name.contains(part),
    });
    found.map(|&(_, family)| family)
}
