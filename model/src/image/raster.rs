//! Rows of bytes with any number of channels: what pictures (3) and masks (1) have in common.

/// `height` rows of `width` pixels of `channels` bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Raster {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) channels: usize,
    pub(super) bytes: Vec<u8>,
}

impl Raster {
    /// The raster whose pixel at (x, y) is this one's at `source(x, y)`.
    pub(super) fn gather(
        &self,
        width: usize,
        height: usize,
        source: impl Fn(usize, usize) -> (usize, usize),
    ) -> Self {
        let mut bytes = Vec::with_capacity(width * height * self.channels);
        for y in 0..height {
            for x in 0..width {
                let (x, y) = source(x, y);
                let start = (y * self.width + x) * self.channels;
                bytes.extend_from_slice(&self.bytes[start..start + self.channels]);
            }
        }
        Self { width, height, channels: self.channels, bytes }
    }
}
