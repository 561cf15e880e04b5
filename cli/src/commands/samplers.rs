//! `aquatint samplers`: the samplers and schedules, what each is, and when to choose it.

use aquatint_model::samplers::{SamplerKind, Schedule};

pub(crate) fn run() {
    println!("{}", listing().trim_end());
}

/// Four lines for each sampler, one for each schedule.
fn listing() -> String {
    let samplers = SamplerKind::all().map(|kind| {
        let (label, about, schedules) = (kind.label(), kind.description(), schedules(kind));
        format!(
            "{label}\n  what       {}\n  when       {}\n  source     {}; {}\n  schedules  {schedules}\n",
            about.what,
            about.when,
            about.paper,
            kind.class().map_or("not in diffusers".into(), |class| format!("in diffusers {class}"))
        )
    });
    let schedules =
        Schedule::all().map(|schedule| format!("  {:12} {}\n", schedule.label(), schedule.description()));
    format!(
        "Samplers (--sampler; the names of A1111, ComfyUI, stable-diffusion.cpp and diffusers are understood)\n\n{}\n\
         Schedules (--schedule)\n{}",
        samplers.collect::<Vec<_>>().join("\n"),
        schedules.collect::<String>()
    )
}

/// "normal, karras": those that can be asked for by name.
fn schedules(kind: SamplerKind) -> String {
    let named = Schedule::all().filter(|schedule| kind.schedules().contains(schedule));
    named.map(Schedule::label).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sampler_and_schedule_is_listed() {
        let listing = listing();
        for kind in SamplerKind::all() {
            assert!(listing.contains(&format!("\n{}\n  what ", kind.label())), "{}", kind.label());
        }
        assert!(
            listing.contains("\n  schedules  normal\n")
                && listing.contains("\n  schedules  normal, trailing\n")
        );
        assert!(listing.contains(
            "\n  schedules  normal, karras, exponential, beta, sgm_uniform, trailing, simple, ays, lu\n"
        ));
        assert!(listing.contains("\n  karras       "));
    }
}
