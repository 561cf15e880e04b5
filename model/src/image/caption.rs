//! A line of text above a picture: steps on strips, timesteps on noise.
//!
//! The letters are the 8×8 bitmaps of the IBM PC (crate `font8x8`), enlarged in whole steps on
//! large pictures, so that a caption looks the same everywhere and needs no font of the system.

use font8x8::legacy::BASIC_LEGACY;

use super::Image;

/// Pixels of a letter's side.
const LETTER: usize = 8;

/// Empty pixels above and below the letters.
const MARGIN: usize = 2;

/// Letters that should fit into a line.
const LETTERS: usize = 20;

impl Image {
    /// The picture under a white line with a text in black, from ASCII; what is too long is cut
    /// off. The picture's parameters are kept.
    ///
    /// ```
    /// # use aquatint_model::Image;
    /// let captioned = Image::from_rgb(64, 64, vec![9; 3 * 64 * 64]).captioned("step 1/20");
    /// assert_eq!((captioned.width(), captioned.height()), (64, 64 + 12));
    /// ```
    #[must_use]
    pub fn captioned(self, text: &str) -> Self {
        let scale = (self.width / (LETTER * LETTERS)).max(1);
        let rows = scale * (LETTER + 2 * MARGIN);
        let mut pixels = vec![255; 3 * self.width * rows];
        for (i, letter) in text.chars().enumerate() {
            let bitmap = BASIC_LEGACY.get(letter as usize).unwrap_or(&BASIC_LEGACY[b'?' as usize]);
            let left = scale * (MARGIN + LETTER * i);
            for (y, x) in (0..scale * LETTER).flat_map(|y| (0..scale * LETTER).map(move |x| (y, x))) {
                let is_black = bitmap[y / scale] >> (x / scale) & 1 == 1;
                if is_black && left + x < self.width {
                    let at = 3 * ((y + scale * MARGIN) * self.width + left + x);
                    pixels[at..at + 3].fill(0);
                }
            }
        }
        pixels.extend(&self.pixels);
        Self { height: self.height + rows, pixels, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_black_on_white_and_the_picture_is_below() {
        let grey = Image::from_rgb(24, 2, vec![7; 3 * 24 * 2]);
        let captioned = grey.clone().captioned("1I, too long for it");
        assert_eq!((captioned.width(), captioned.height()), (24, 14));
        let (caption, picture) = captioned.pixels().split_at(3 * 24 * 12);
        assert_eq!(picture, grey.pixels());
        assert!(caption.iter().all(|&value| value == 0 || value == 255));
        let row = |y: usize| {
            let pixels = caption[3 * 24 * y..][..3 * 24].chunks(3);
            pixels.map(|pixel| if pixel[0] == 0 { '#' } else { '.' }).collect::<String>()
        };
        assert_eq!(row(0), ".".repeat(24));
        // The top of a 1 (0x0c) and of an I (0x1e), the lowest bit at the left.
        assert_eq!(&row(2)[..18], "....##.....####...");
    }

    #[test]
    fn large_pictures_have_large_letters() {
        let captioned = Image::from_rgb(512, 1, vec![0; 3 * 512]).captioned("x");
        assert_eq!(captioned.height(), 1 + 3 * 12);
    }
}
