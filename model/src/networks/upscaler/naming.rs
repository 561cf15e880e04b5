//! Which network a file of an upscaler holds. No file has a config: sizes follow from shapes.
//!
//! The compact network is a list: `body.0`, `body.1`, …. Training saves two sets of weights,
//! `params` and their running mean `params_ema`; the latter is taken.

use std::collections::BTreeMap;

use super::rrdbnet::RrdbConfig;
use super::spelling::Spelling;
use super::srvgg::SrvggConfig;
use crate::source::Checkpoint;

/// What is in a file.
pub(super) struct Found {
    /// The prefix of every name.
    pub(super) prefix: String,
    pub(super) kind: Kind,
}

pub(super) enum Kind {
    Rrdb(RrdbConfig),
    Srvgg(SrvggConfig),
}

/// The network of a file.
pub(super) fn find(file: &Checkpoint) -> Result<Found, String> {
    let has_prefix = |prefix: &str| file.names().any(|name| name.starts_with(prefix));
    let prefixes = ["params_ema.", "params.", ""];
    let prefix = prefixes.into_iter().find(|prefix| has_prefix(prefix)).unwrap_or_default();
    let shapes: BTreeMap<&str, &[usize]> =
        file.tensors().filter_map(|tensor| Some((tensor.name.strip_prefix(prefix)?, tensor.shape))).collect();
    let prefix = prefix.to_owned();
    let dense = |spelling: &Spelling| shapes.contains_key(&*format!("{}.weight", spelling.dense(0, 1, 1)));
    if let Some(spelling) = Spelling::ALL.into_iter().find(dense) {
        return Ok(Found { prefix, kind: Kind::Rrdb(rrdb(&shapes, spelling)?) });
    }
    if shapes.contains_key("body.0.weight") && shapes.contains_key("body.1.weight") {
        return Ok(Found { prefix, kind: Kind::Srvgg(srvgg(&shapes)?) });
    }
    Err("it is no upscaler that is known here; expected the tensors of RRDBNet (ESRGAN, Real-ESRGAN) or SRVGGNetCompact".into())
}

/// Height and width of the windows are the loader's to check.
fn channels(shapes: &BTreeMap<&str, &[usize]>, name: &str) -> Result<[usize; 2], String> {
    let name = format!("{name}.weight");
    match shapes.get(&*name) {
        Some([out_channels, in_channels, _, _]) => Ok([*out_channels, *in_channels]),
        Some(shape) => Err(format!("tensor `{name}`: expected four axes, found {shape:?}")),
        None => Err(format!("the upscaler has no tensor `{name}`")),
    }
}

fn rrdb(shapes: &BTreeMap<&str, &[usize]>, spelling: Spelling) -> Result<RrdbConfig, String> {
    let has = |name: String| shapes.contains_key(&*format!("{name}.weight"));
    let blocks = (0..).take_while(|&i| has(spelling.dense(i, 1, 1))).count();
    // The last two layers of the numbered spelling are where the next doublings would be.
    let ups = match spelling {
        Spelling::Numbered => {
            let numbers = shapes.keys().filter_map(|name| name.strip_prefix("model.")?.split('.').next());
            let last = numbers.filter_map(|number| number.parse::<usize>().ok()).max().unwrap_or(0);
            last.checked_sub(4).filter(|rest| rest.is_multiple_of(3)).map(|rest| rest / 3).ok_or_else(
                || format!("the upscaler's last layer is `model.{last}`; expected 4, 7, 10 or 13"),
            )?
        }
        _ => (1..).take_while(|&i| has(spelling.up(i))).count(),
    };
    if ups > 4 {
        return Err(format!("the upscaler doubles {ups} times; expected up to 4"));
    }
    let [filters, in_channels] = channels(shapes, spelling.first())?;
    let [growth, _] = channels(shapes, &spelling.dense(0, 1, 1))?;
    let [out_channels, _] = channels(shapes, &spelling.last(ups)[1])?;
    let unshuffle = [1, 2, 4].into_iter().find(|factor| in_channels == 3 * factor * factor);
    match unshuffle {
        Some(unshuffle) if out_channels == 3 && 1 << ups >= unshuffle => {
            Ok(RrdbConfig { spelling, filters, growth, blocks, ups, unshuffle })
        }
        _ => Err(format!(
            "the upscaler makes {out_channels} channels of {in_channels} and doubles {ups} times; expected 3 channels of 3, 12 or 48"
        )),
    }
}

fn srvgg(shapes: &BTreeMap<&str, &[usize]>) -> Result<SrvggConfig, String> {
    let numbers = shapes.keys().filter_map(|name| name.strip_prefix("body.")?.split('.').next());
    let last = numbers.filter_map(|number| number.parse::<usize>().ok()).max().unwrap_or(0);
    let [filters, in_channels] = channels(shapes, "body.0")?;
    let [out_channels, _] = channels(shapes, &format!("body.{last}"))?;
    let scale = (1..=8).find(|scale| out_channels == 3 * scale * scale);
    match scale {
        Some(scale) if in_channels == 3 && last.is_multiple_of(2) => {
            Ok(SrvggConfig { filters, convolutions: last / 2 - 1, scale })
        }
        _ => Err(format!(
            "the upscaler makes {out_channels} channels of {in_channels} in {last} layers; expected 3·scale² of 3"
        )),
    }
}
