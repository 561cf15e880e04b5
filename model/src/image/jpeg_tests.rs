//! Complete files of every kind pass; the same files without their end, and those that the decoder
//! gets wrong, are refused. The files are made here: blocks of one colour each.

use super::*;

const AREA: u64 = 1_000_000;

/// What differs between the files.
#[derive(Clone, Copy, Debug)]
struct Kind {
    sides: [usize; 2],
    /// Of each component.
    sampling: &'static [[usize; 2]],
    /// The components of each scan.
    scans: &'static [&'static [usize]],
    restart: usize,
}

const YCC: &[[usize; 2]] = &[[2, 2], [1, 1], [1, 1]];
const PLAIN: Kind = Kind { sides: [53, 37], sampling: YCC, scans: &[&[0, 1, 2]], restart: 0 };

/// A file in which each block is coded by two bits: "no difference", "no further coefficient".
/// `share` is the part of the last scan that is written.
fn file(kind: Kind, share: f64) -> Vec<u8> {
    let segment = |marker: u8, content: &[u8]| {
        [&[0xff, marker], &(content.len() as u16 + 2).to_be_bytes()[..], content].concat()
    };
    let [width, height] = kind.sides.map(|side| (side as u16).to_be_bytes());
    let mut frame = [&[8][..], &height, &width, &[kind.sampling.len() as u8]].concat();
    for (id, [h, v]) in (1..).zip(kind.sampling) {
        frame.extend([id, (h << 4 | v) as u8, 0]);
    }
    let mut table = vec![8; 65];
    table[0] = 0;
    // One code of one bit for "0 bits follow", which means the end of the block for AC.
    let code = |class: u8| [&[class << 4, 1][..], &[0; 15], &[0]].concat();
    let mut bytes = [&[0xff, 0xd8][..], &segment(0xdb, &table), &segment(0xc0, &frame)].concat();
    bytes.extend([segment(0xc4, &code(0)), segment(0xc4, &code(1))].concat());
    bytes.extend(segment(0xdd, &(kind.restart as u16).to_be_bytes()));
    let most = [0, 1].map(|axis| kind.sampling.iter().map(|s| s[axis]).max().expect("a component"));
    for (i, scan) in kind.scans.iter().enumerate() {
        let rows: Vec<u8> = scan.iter().flat_map(|&c| [c as u8 + 1, 0]).collect();
        bytes.extend(segment(0xda, &[&[scan.len() as u8][..], &rows, &[0, 63, 0]].concat()));
        let side = |axis: usize| match scan {
            &&[c] => (kind.sides[axis] * kind.sampling[c][axis]).div_ceil(most[axis] * 8),
            _ => kind.sides[axis].div_ceil(most[axis] * 8),
        };
        let blocks = |c: &usize| if scan.len() == 1 { 1 } else { kind.sampling[*c].iter().product() };
        let bits: usize = scan.iter().map(blocks).sum::<usize>() * 2;
        let mcus = side(0) * side(1);
        let written = if i + 1 == kind.scans.len() { (share * mcus as f64) as usize } else { mcus };
        let mut open = 0; // bits since the last restart
        for mcu in 0..written {
            if kind.restart > 0 && mcu > 0 && mcu % kind.restart == 0 {
                bytes.extend(vec![0; usize::div_ceil(open, 8)]);
                bytes.extend([0xff, 0xd0 + ((mcu / kind.restart - 1) % 8) as u8]);
                open = 0;
            }
            open += bits;
        }
        bytes.extend(vec![0; open.div_ceil(8)]);
    }
    bytes.extend([0xff, 0xd9]);
    bytes
}

#[test]
fn complete_files_pass_and_incomplete_ones_do_not() {
    let grey: &[[usize; 2]] = &[[2, 2]];
    let tall: &[[usize; 2]] = &[[1, 1], [1, 2], [1, 1]];
    let full: &[[usize; 2]] = &[[1, 1]; 3];
    for kind in [
        PLAIN,
        Kind { restart: 2, ..PLAIN },
        Kind { sampling: grey, scans: &[&[0]], ..PLAIN },
        Kind { sampling: tall, ..PLAIN },
        Kind { sampling: full, scans: &[&[0], &[1], &[2]], ..PLAIN },
        Kind { sampling: full, scans: &[&[1, 2], &[0]], restart: 3, ..PLAIN },
        Kind { sides: [640, 480], ..PLAIN },
    ] {
        check(&file(kind, 1.0), AREA).unwrap_or_else(|e| panic!("{kind:?}: {e}"));
        let error = check(&file(kind, 0.5), AREA).expect_err("half of it is missing");
        assert!(error.contains("% of its data is there"), "{error}");
    }
    let error = check(&file(Kind { scans: &[&[0]], sampling: &[[1, 1]; 3], ..PLAIN }, 1.0), AREA);
    assert!(error.expect_err("no chroma").contains("a colour is missing"));
}

#[test]
fn kinds_that_the_decoder_gets_wrong_are_refused() {
    for (kind, expected) in [
        (Kind { scans: &[&[0], &[1], &[2]], ..PLAIN }, "one after the other"),
        (Kind { scans: &[&[0], &[1, 2]], ..PLAIN }, "one after the other"),
        (Kind { sampling: &[[1, 1], [2, 2], [2, 2]], ..PLAIN }, "more columns of colour"),
        (Kind { sampling: &[[1, 1], [2, 1], [1, 1]], ..PLAIN }, "more columns of colour"),
    ] {
        let error = check(&file(kind, 1.0), AREA).expect_err("it is not supported");
        assert!(error.contains(expected) && error.contains("save it again"), "{error}");
    }
}

/// A progressive file of libjpeg, with restarts, whose last scan ends in the middle.
#[test]
fn progressive_files_are_walked_bit_by_bit() {
    let whole = include_bytes!("test_data/progressive-420-53x37.jpg");
    check(whole, AREA).expect("libjpeg wrote it whole");
    let photo = crate::ImageFile::from_bytes(whole).expect("it is a picture").image;
    assert_eq!((photo.width(), photo.height()), (53, 37));
    let last = whole.windows(2).rposition(|pair| pair == [0xff, 0xda]).expect("a last scan");
    for kept in [12, 40] {
        let cut = [&whole[..last + 2 + kept], &[0xff, 0xd9]].concat();
        let error = check(&cut, AREA).expect_err("its data ends early");
        assert!(error.contains("% of its data is there"), "{kept}: {error}");
    }
}

#[test]
fn nothing_is_taken_for_granted() {
    let whole = file(Kind { restart: 2, ..PLAIN }, 1.0);
    for end in 0..whole.len() {
        check(&whole[..end], AREA).expect_err("it is cut");
    }
    for at in 2..whole.len() {
        for value in [0, 1, 0x7f, 0xff] {
            let mut changed = whole.clone();
            changed[at] = value;
            let _ = check(&changed, AREA); // whatever it says, it says it
        }
    }
}
