//! How files spell the layers of RRDBNet.
//!
//! | layer | ESRGAN (2018) | ESRGAN, BSRGAN | Real-ESRGAN |
//! |---|---|---|---|
//! | first | `model.0` | `conv_first` | `conv_first` |
//! | dense block | `model.1.sub.0.RDB1.conv1.0` | `RRDB_trunk.0.RDB1.conv1` | `body.0.rdb1.conv1` |
//! | behind the blocks | `model.1.sub.23` | `trunk_conv` | `conv_body` |
//! | doubling | `model.3`, `model.6` | `upconv1` | `conv_up1` |
//! | last two | `model.8`, `model.10` | `HRconv`, `conv_last` | `conv_hr`, `conv_last` |

/// The spellings of RRDBNet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Spelling {
    Numbered,
    Trunk,
    Body,
}

impl Spelling {
    pub(super) const ALL: [Self; 3] = [Self::Numbered, Self::Trunk, Self::Body];

    pub(super) fn first(self) -> &'static str {
        if self == Self::Numbered { "model.0" } else { "conv_first" }
    }

    /// Convolution `conv`, from 1, of dense block `dense`, from 1, of block `block`, from 0.
    pub(super) fn dense(self, block: usize, dense: usize, conv: usize) -> String {
        match self {
            Self::Numbered => format!("model.1.sub.{block}.RDB{dense}.conv{conv}.0"),
            Self::Trunk => format!("RRDB_trunk.{block}.RDB{dense}.conv{conv}"),
            Self::Body => format!("body.{block}.rdb{dense}.conv{conv}"),
        }
    }

    /// The convolution behind all blocks.
    pub(super) fn body(self, blocks: usize) -> String {
        match self {
            Self::Numbered => format!("model.1.sub.{blocks}"),
            Self::Trunk => "trunk_conv".into(),
            Self::Body => "conv_body".into(),
        }
    }

    /// Doubling `i`, from 1.
    pub(super) fn up(self, i: usize) -> String {
        match self {
            Self::Numbered => format!("model.{}", 3 * i),
            Self::Trunk => format!("upconv{i}"),
            Self::Body => format!("conv_up{i}"),
        }
    }

    /// The last two.
    pub(super) fn last(self, ups: usize) -> [String; 2] {
        match self {
            Self::Numbered => [format!("model.{}", 3 * ups + 2), format!("model.{}", 3 * ups + 4)],
            Self::Trunk => ["HRconv".into(), "conv_last".into()],
            Self::Body => ["conv_hr".into(), "conv_last".into()],
        }
    }
}
