//! Files of every kind, damaged and hostile ones; sizes; masks and seams.

use std::fs;

use image::{ExtendedColorType, ImageEncoder, codecs};

use super::*;
use crate::image::ResizeMode;
use crate::image::mask::{Margins, Region};

fn png(pixels: &[u8], width: u32, height: u32, color: ExtendedColorType) -> Vec<u8> {
    let mut bytes = Vec::new();
    codecs::png::PngEncoder::new(&mut bytes)
        .write_image(pixels, width, height, color)
        .expect("a valid picture");
    bytes
}

fn jpeg(width: u32, height: u32) -> Vec<u8> {
    let pixels: Vec<u8> = (0..3 * width * height).map(|i| (i % 251) as u8).collect();
    let mut bytes = Vec::new();
    codecs::jpeg::JpegEncoder::new(&mut bytes)
        .write_image(&pixels, width, height, ExtendedColorType::Rgb8)
        .expect("a valid picture");
    bytes
}

fn decoded(bytes: &[u8]) -> ImageFile {
    ImageFile::from_bytes(bytes).expect("a valid picture")
}

#[test]
fn grey_16_bit_and_transparent_pictures_become_rgb() {
    let grey = decoded(&png(&[7, 200], 2, 1, ExtendedColorType::L8));
    assert_eq!((grey.image.pixels(), grey.transparent), (&[7, 7, 7, 200, 200, 200][..], None));

    let deep: Vec<u8> = [0u16, 257 * 100, 65535].iter().flat_map(|x| x.to_ne_bytes()).collect();
    let deep = decoded(&png(&deep, 1, 1, ExtendedColorType::Rgb16));
    assert_eq!(deep.image.pixels(), [0, 100, 255]);

    let pixels = [10, 20, 30, 255, 10, 20, 30, 0, 0, 0, 0, 51];
    let clear = decoded(&png(&pixels, 3, 1, ExtendedColorType::Rgba8));
    assert_eq!(clear.image.pixels(), [10, 20, 30, 255, 255, 255, 204, 204, 204]);
    assert_eq!(clear.transparent.expect("there is an alpha channel").grey(), [0, 255, 204]);
}

/// The greys are those of Pillow's `Image.open(path).convert("L")`.
#[test]
fn a_mask_is_the_stored_colour_whatever_its_alpha() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("mask.png");
    let pixels = [0, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 0, 255, 0, 0, 51];
    fs::write(&path, png(&pixels, 4, 1, ExtendedColorType::Rgba8)).expect("writable");
    assert_eq!(Mask::open(&path).expect("a picture").grey(), [0, 255, 255, 76]);
}

#[test]
fn webp_is_read_and_the_name_does_not_count() {
    let mut webp = Vec::new();
    codecs::webp::WebPEncoder::new_lossless(&mut webp)
        .write_image(&[1, 2, 3, 4, 5, 6], 2, 1, ExtendedColorType::Rgb8)
        .expect("a valid picture");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("really-a-webp.png");
    fs::write(&path, webp).expect("writable");
    assert_eq!(ImageFile::open(&path).expect("a picture").image.pixels(), [1, 2, 3, 4, 5, 6]);
}

#[test]
fn exif_turns_the_picture() {
    // A JPEG of 16×8 whose EXIF block says 6: turn by 90° to the right.
    let plain = jpeg(16, 8);
    let mut exif =
        b"\xff\xe1\x00\x22Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
            .to_vec();
    exif[3] = (exif.len() - 2) as u8;
    let turned = decoded(&[&plain[..2], &exif, &plain[2..]].concat()).image;
    let plain = decoded(&plain).image;
    assert_eq!((plain.width(), plain.height()), (16, 8));
    assert_eq!((turned.width(), turned.height()), (8, 16));
    // What was on the left is above; the first row, from right to left, is the first column.
    assert_eq!(turned.pixels()[3 * 7..][..3], plain.pixels()[..3]);
}

#[test]
fn what_is_no_whole_picture_is_refused() {
    let noise: Vec<u8> = (0..3 * 64 * 64u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let whole = png(&noise, 64, 64, ExtendedColorType::Rgb8);
    let photo = jpeg(64, 64);
    for (bytes, expected) in [
        (&whole[..whole.len() / 2], "damaged"),
        (&whole[..20], "damaged"),
        (&photo[..photo.len() / 2], "% of its data is there"),
        (b"", "no PNG, JPEG or WebP"),
        (include_bytes!("test_data/animated.webp"), "an animation; expected a still picture"),
        (b"GIF89a and so on", "no PNG, JPEG or WebP"),
        (b"<svg></svg>", "no PNG, JPEG or WebP"),
    ] {
        let error = decode(bytes).expect_err("it is no picture");
        assert!(error.contains(expected), "expected \"{expected}\" in: {error}");
    }
}

#[test]
fn what_stands_behind_the_end_of_a_jpeg_does_not_count() {
    let photo = jpeg(16, 8);
    for behind in [&b"ftypmp42"[..], b"\xff\xda and so on", &photo[..photo.len() / 2]] {
        let both = [&photo, behind].concat();
        assert_eq!(decoded(&both).image, decoded(&photo).image);
    }
    // A whole thumbnail within a segment does not end the picture.
    let length = (photo.len() as u16 + 2).to_be_bytes();
    let cut = [&photo[..2], b"\xff\xe2", &length, &photo, &photo[2..photo.len() / 2]].concat();
    assert!(decode(&cut).expect_err("it is cut").contains("ends too early"));
}

#[test]
fn a_header_that_promises_too_much_is_refused_before_memory_is_taken() {
    let mut bytes = png(&[0; 3], 1, 1, ExtendedColorType::Rgb8);
    bytes[16..20].copy_from_slice(&60_000u32.to_be_bytes());
    bytes[20..24].copy_from_slice(&60_000u32.to_be_bytes());
    let crc = crc32(&bytes[12..29]);
    bytes[29..33].copy_from_slice(&crc.to_be_bytes());
    let error = decode(&bytes).expect_err("it is too large");
    assert!(error.contains("60000×60000; expected at most 100 million pixels"), "{error}");
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| {
        (0..8).fold(
            crc ^ u32::from(byte),
            |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 },
        )
    })
}

#[test]
fn a_missing_file_is_named() {
    let error = ImageFile::open("/no/such/picture.png").expect_err("it is missing");
    assert_eq!(error.kind(), crate::ErrorKind::Request);
    assert!(error.to_string().contains("`/no/such/picture.png`: cannot read"), "{error}");
}

/// A row of grey pixels as a picture.
fn row(values: &[u8]) -> Image {
    Image::from_rgb(values.len(), 1, values.iter().flat_map(|&v| [v; 3]).collect())
}

fn reds(picture: &Image) -> Vec<u8> {
    picture.pixels().iter().step_by(3).copied().collect()
}

#[test]
fn sizes_and_modes() {
    let wide = row(&[10, 20, 30, 40]);
    assert_eq!(wide.resized(4, 1, ResizeMode::Stretch), wide);
    assert_eq!(reds(&wide.resized(2, 1, ResizeMode::Crop)), [20, 30], "the middle");
    assert_eq!(
        reds(&wide.resized(4, 3, ResizeMode::Fit)),
        [10, 20, 30, 40].repeat(3),
        "bars above and below"
    );
    let flat = Image::from_rgb(5, 7, vec![77; 3 * 5 * 7]);
    let gradient = Image::from_rgb(30, 8, (0..30 * 8 * 3).map(|i| (i * i % 251) as u8).collect());
    let (stretched, cropped) =
        (gradient.resized(15, 4, ResizeMode::Stretch), gradient.resized(4, 4, ResizeMode::Crop));
    for (whole, part) in stretched.pixels().chunks(15 * 3).zip(cropped.pixels().chunks(4 * 3)) {
        assert_eq!(whole[5 * 3..9 * 3], *part, "cropped, a picture is the middle of the stretched one");
    }
    let narrow = Image::from_rgb(100_000, 1, vec![77; 300_000]);
    assert!(narrow.resized(512, 512, ResizeMode::Crop).pixels().iter().all(|&byte| byte == 77));
    for mode in [ResizeMode::Crop, ResizeMode::Fit, ResizeMode::Stretch] {
        let resized = flat.resized(16, 8, mode);
        assert_eq!((resized.width(), resized.height()), (16, 8));
        assert!(resized.pixels().iter().all(|&byte| byte == 77), "{mode:?}: a flat picture stays flat");
    }
}

#[test]
fn a_mask_composites_inside_and_keeps_the_outside() {
    let mask = Mask::from_grey(7, 1, vec![0, 127, 128, 255, 255, 255, 255]);
    let (old, new) = (row(&[1; 7]), row(&[100; 7]));
    assert_eq!(reds(&mask.composite(&old, &new, 0)), [1, 1, 100, 100, 100, 100, 100]);
    // Distances 1, 2, 3, 4, 5 of 3: a third, two thirds, all.
    assert_eq!(reds(&mask.composite(&old, &new, 2)), [1, 1, 34, 67, 100, 100, 100]);
    assert_eq!(mask.composite(&old, &new, usize::MAX), old, "a seam without end leaves nothing new");
    let everything = Mask::from_grey(7, 1, vec![255; 7]);
    assert_eq!(everything.composite(&old, &new, 9), new, "the picture's edge is no seam");
    assert_eq!(mask.clone().inverted().inverted(), mask);
}

#[test]
fn a_region_keeps_the_proportions_and_stays_inside() {
    let mut grey = vec![0; 20 * 10];
    grey[20 * 4 + 18] = 255; // column 18, row 4
    let mask = Mask::from_grey(20, 10, grey);
    let region = |padding, width, height| mask.region(padding, width, height).expect("something is white");
    assert_eq!(region(0, 64, 64), Region { left: 18, top: 4, width: 1, height: 1 });
    assert_eq!(region(1, 64, 64), Region { left: 17, top: 3, width: 3, height: 3 });
    assert_eq!(region(1, 128, 64), Region { left: 14, top: 3, width: 6, height: 3 });
    for padding in [50, usize::MAX] {
        assert_eq!(region(padding, 64, 64), Region { left: 0, top: 0, width: 20, height: 10 });
    }
    let error = Mask::from_grey(2, 1, vec![0, 0]).region(0, 8, 8).expect_err("nothing is white").to_string();
    assert!(error.contains("nothing to repaint"), "{error}");
}

#[test]
fn a_picture_grows_at_its_margins() {
    let margins = Margins { left: 2, right: 1, top: 0, bottom: 1 };
    let picture = row(&[5, 9]).expanded(margins);
    let mask = Mask::from_grey(2, 1, vec![0, 7]).expanded(margins);
    assert_eq!((picture.width(), picture.height()), (5, 2));
    assert_eq!(reds(&picture), [5, 5, 5, 9, 9].repeat(2));
    assert_eq!(mask.grey(), [255, 255, 0, 7, 255, 255, 255, 255, 255, 255]);
}

#[test]
fn what_is_beyond_a_multiple_of_8_is_cut_and_the_rest_keeps_its_bits() {
    for (width, height) in [(107, 91), (75, 57), (75, 56), (64, 71), (15, 9)] {
        let pixels: Vec<u8> = (0..3 * width * height).map(|i| (i * i % 251) as u8).collect();
        let image = Image::from_rgb(width, height, pixels);
        let [cut_width, cut_height] = [width, height].map(|side| side / 8 * 8);
        let region = Region {
            left: width / 2 - cut_width / 2,
            top: height / 2 - cut_height / 2,
            width: cut_width,
            height: cut_height,
        };
        let cut = image.resized(cut_width, cut_height, ResizeMode::Crop);
        assert!(cut == image.cropped(region), "{width}×{height}");
        let mask = Mask::from_picture(&image);
        let cut_mask = mask.resized(cut_width, cut_height, ResizeMode::Crop);
        assert!(cut_mask == mask.cropped(region), "the mask of {width}×{height}");
    }
}
