//! `a fox AND snow :0.5`: several prompts at once, each with its weight.
//!
//! ```text
//! e = e_uncond + guidance_scale · Σ weightᵢ · (eᵢ − e_uncond)
//! ```
//!
//! Each part goes through the UNet by itself, so a step takes as much longer as there are parts. A
//! weight is at the end of its part, `a fox :1.2`, and is 1 where there is none. As in A1111,
//! the end of a prompt without `AND` is read in the same way, and the negative prompt has no parts.
//!
//! Source: Liu et al., *Compositional Visual Generation with Composable Diffusion Models* (2022);
//! `get_multicond_prompt_list` in A1111's `modules/prompt_parser.py`.

use std::sync::LazyLock;

use regex::Regex;

/// A part of a prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// Its text, without the weight.
    pub text: String,
    /// How strongly it counts; negative: how strongly it is avoided.
    pub weight: f32,
}

/// The parts of a prompt; there is at least one.
///
/// ```
/// # use aquatint_model::text::prompt::composition::{Part, parts};
/// let part = |text: &str, weight| Part { text: text.into(), weight };
/// assert_eq!(parts("a fox AND snow :0.5"), [part("a fox", 1.0), part(" snow", 0.5)]);
/// ```
pub fn parts(prompt: &str) -> Vec<Part> {
    static AND: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\bAND\b").expect("the expression is valid"));
    static WEIGHT: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"\s*:\s*([-+]?(?:[0-9]+\.?|[0-9]*\.[0-9]+))\s*$").expect("the expression is valid")
    });
    let part = |text: &str| match WEIGHT.captures(text) {
        Some(found) => Part {
            text: text[..found.get(0).map_or(0, |all| all.start())].to_owned(),
            weight: found[1].parse().unwrap_or(1.0),
        },
        None => Part { text: text.trim_end().to_owned(), weight: 1.0 },
    };
    AND.split(prompt).map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(prompt: &str, expected: &[(&str, f32)]) {
        let found = parts(prompt);
        let found: Vec<_> = found.iter().map(|part| (part.text.as_str(), part.weight)).collect();
        assert_eq!(found, expected, "{prompt}");
    }

    /// What A1111's two regular expressions make of these texts.
    #[test]
    fn parts_have_weights_at_their_ends() {
        check("a fox", &[("a fox", 1.0)]);
        check("", &[("", 1.0)]);
        check("a AND b", &[("a", 1.0), (" b", 1.0)]);
        check("a:1.2 AND b : -.5  AND c:+2.", &[("a", 1.2), (" b", -0.5), (" c", 2.0)]);
        check("a\nAND\nb :2\n", &[("a", 1.0), ("\nb", 2.0)]);
        check("SAND ANDROID and _AND_", &[("SAND ANDROID and _AND_", 1.0)]);
        check("(a:1.2) AND [b:c:0.5]", &[("(a:1.2)", 1.0), (" [b:c:0.5]", 1.0)]);
        check("ratio 16:9", &[("ratio 16", 9.0)]);
        check("AND", &[("", 1.0), ("", 1.0)]);
        check("a :1.5.5", &[("a :1.5.5", 1.0)]);
    }
}
