//! `aquatint presets`: the settings that suit models and adapters of few steps.

use aquatint_model::generate::PRESETS;

pub(crate) fn run() {
    println!("{}", listing().trim_end());
}

/// Five lines for each preset.
fn listing() -> String {
    let presets = PRESETS.iter().map(|preset| {
        let names: Vec<_> = preset.names().map(|name| format!("\"{name}\"")).collect();
        let names = if names.is_empty() { "no name".into() } else { names.join(", ") };
        format!(
            "{}\n  for       {}\n  settings  {}\n  known by  {names} in the name of a model, adapter or repository\n  source    {}\n",
            preset.name,
            preset.what,
            preset.describe(preset.steps),
            preset.source
        )
    });
    format!(
        "Presets (--preset; a model that is recognised needs none, and other flags count more)\n\n{}\n\
         A number before \"step\" in a name counts as the steps. Models are also recognised by their settings: an input for the\n\
         guidance scale, the classes LCMScheduler and TCDScheduler, Euler's with trailing timesteps, the blocks of SDXS.\n",
        presets.collect::<Vec<_>>().join("\n")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_is_listed_with_its_source() {
        let listing = listing();
        for preset in &PRESETS {
            assert!(listing.contains(&format!("\n{}\n  for ", preset.name)), "{}", preset.name);
            assert!(listing.contains(preset.source), "{}", preset.name);
        }
        assert!(listing.contains("1 step, no guidance, sampler Euler, schedule trailing"));
    }
}
