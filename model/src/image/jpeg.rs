//! What a JPEG file promises, looked at before it is decoded.
//!
//! ```text
//! SOI, segments: DQT, DHT (codes), DRI (restarts), SOF (size, sampling of each component)
//! SOS, data of a scan: codes of blocks, 0xFF only before 0 or a restart marker; more scans; EOI
//! ```
//!
//! The decoder fills what is missing with grey, and decodes two kinds of valid files to wrong
//! colours, all without an error. So the codes are walked here without computing a pixel: each
//! block that the header promises must have its codes. `zune-jpeg` 0.5.15, compared with libjpeg on
//! 132 files of all samplings: wrong where luma has fewer columns than another component, and where
//! a sequential picture has more than one scan, unless all sampling factors are 1.
//!
//! Source: ITU-T T.81, annexes B (segments), F (sequential) and G (progressive).

/// Why a file is refused.
type Refused = String;

/// A component of the picture: luma, or one of the two of chroma.
struct Component {
    id: u8,
    /// Blocks of 8×8 pixels in a row and in a column of an MCU.
    sampling: [usize; 2],
    /// Columns and rows of blocks with pixels in them.
    blocks: [usize; 2],
    /// Blocks in a row, with those that only fill the last MCU.
    stride: usize,
    /// For each block of a progressive picture the coefficients that are not 0, a bit each.
    nonzero: Vec<u64>,
    has_data: bool,
}

/// What the frame header says.
struct Frame {
    progressive: bool,
    components: Vec<Component>,
    /// Columns and rows of MCUs.
    mcus: [usize; 2],
}

/// A Huffman code: for the next 16 bits, how many of them are a code and what it means.
type Codes = Vec<(u8, u8)>;

/// Refuses a picture that ends early, whose data does not fill it, or that the decoder gets wrong.
/// What this does not know, as arithmetic coding, is left to the decoder.
pub(super) fn check(bytes: &[u8], largest_area: u64) -> Result<(), Refused> {
    let mut file = File { rest: bytes, dc: Default::default(), ac: Default::default(), restart: 0 };
    let mut frame: Option<Frame> = None;
    let mut scans = 0;
    while let Some((marker, segment)) = file.next_segment()? {
        match marker {
            0xc4 => file.read_codes(segment).ok_or("the picture is damaged: its Huffman codes")?,
            0xdd => file.restart = u16_at(segment, 0).ok_or("the picture is damaged: its restarts")?,
            0xc0..=0xc2 if frame.is_none() => match Frame::read(marker, segment, largest_area)? {
                Some(read) => frame = Some(read),
                None => break, // the decoder's to refuse
            },
            0xda => {
                let Some(frame) = &mut frame else { continue };
                scans += 1;
                if scans > 1 && !frame.progressive && !frame.has_no_sampling() {
                    return Err("this JPEG has its colours one after the other, which is not \
                                supported; save it again, as a JPEG or PNG"
                        .into());
                }
                file.scan(frame, segment)?;
            }
            _ => {}
        }
    }
    let complete = frame.is_none_or(|frame| frame.components.iter().all(|component| component.has_data));
    if complete { Ok(()) } else { Err("the picture is damaged: a colour is missing".into()) }
}

impl Frame {
    /// `None` for what is not walked: a picture that is too large, or of no size.
    fn read(marker: u8, segment: &[u8], largest_area: u64) -> Result<Option<Self>, Refused> {
        let damaged = || Refused::from("the picture is damaged: its header");
        let side = |at| u16_at(segment, at).ok_or_else(damaged);
        let (height, width) = (side(1)?, side(3)?);
        if width * height == 0 || (width * height) as u64 > largest_area {
            return Ok(None);
        }
        let count = usize::from(*segment.get(5).ok_or_else(damaged)?);
        let rows = segment.get(6..6 + 3 * count).filter(|_| (1..=4).contains(&count));
        let rows = rows.ok_or_else(damaged)?.as_chunks::<3>().0;
        let sampling = |row: &[u8; 3]| [row[1] >> 4, row[1] & 15].map(usize::from);
        if rows.iter().any(|row| sampling(row).iter().any(|side| !(1..=4).contains(side))) {
            return Err(damaged());
        }
        let most = |axis: usize| rows.iter().map(|row| sampling(row)[axis]).max().unwrap_or(1);
        let most = [most(0), most(1)];
        if sampling(&rows[0])[0] < most[0] {
            return Err("this JPEG has more columns of colour than of luminance, which is not \
                        supported; save it again, as a JPEG or PNG"
                .into());
        }
        let mcus = [width.div_ceil(8 * most[0]), height.div_ceil(8 * most[1])];
        let progressive = marker == 0xc2;
        let component = |row: &[u8; 3]| {
            let sampling = sampling(row);
            let side = |axis: usize, pixels: usize| (pixels * sampling[axis]).div_ceil(most[axis] * 8);
            let stride = mcus[0] * sampling[0];
            let nonzero = if progressive { vec![0; stride * mcus[1] * sampling[1]] } else { Vec::new() };
            let blocks = [side(0, width), side(1, height)];
            Component { id: row[0], sampling, blocks, stride, nonzero, has_data: false }
        };
        Ok(Some(Self { progressive, components: rows.iter().map(component).collect(), mcus }))
    }

    fn has_no_sampling(&self) -> bool {
        self.components.iter().all(|component| component.sampling == [1, 1])
    }
}

/// Which coefficients of which bits a scan has; of sequential pictures all of all.
#[derive(Debug, Clone, Copy)]
struct Spectrum {
    start: usize,
    end: usize,
    /// Whether earlier scans had the higher bits.
    refines: bool,
}

/// What is left of the file, and the tables read so far.
struct File<'a> {
    rest: &'a [u8],
    dc: [Codes; 4],
    ac: [Codes; 4],
    /// MCUs between two restart markers; 0 for none.
    restart: usize,
}

impl<'a> File<'a> {
    /// The next marker and what its segment holds; `None` at the end of the picture.
    fn next_segment(&mut self) -> Result<Option<(u8, &'a [u8])>, Refused> {
        let early = || Refused::from("the picture is damaged: the file ends too early");
        let is_segment = |pair: &[u8]| pair[0] == 0xff && !matches!(pair[1], 0 | 1 | 0xd0..=0xd8 | 0xff);
        let start = self.rest.windows(2).position(is_segment).ok_or_else(early)?;
        let (marker, rest) = (self.rest[start + 1], &self.rest[start + 2..]);
        if marker == 0xd9 {
            return Ok(None);
        }
        let length = u16_at(rest, 0).ok_or_else(early)?;
        let segment = rest.get(2..length).ok_or_else(early)?;
        self.rest = &rest[length..];
        Ok(Some((marker, segment)))
    }

    /// One table after the other: class and number, 16 counts of codes by their length, symbols.
    fn read_codes(&mut self, mut segment: &[u8]) -> Option<()> {
        while let Some((&[kind, ref counts @ ..], rest)) = segment.split_first_chunk::<17>() {
            let total: usize = counts.iter().map(|&count| usize::from(count)).sum();
            let (mut symbols, rest) = (rest.get(..total)?.iter(), &rest[total..]);
            let mut codes = Vec::with_capacity(1 << 16);
            for (length, &count) in (1u8..).zip(counts) {
                for &symbol in symbols.by_ref().take(count.into()) {
                    codes.resize(codes.len() + (1 << (16 - length)), (length, symbol));
                }
            }
            if codes.len() > 1 << 16 {
                return None;
            }
            codes.resize(1 << 16, (0, 0)); // no code
            let tables = if kind >> 4 == 0 { &mut self.dc } else { &mut self.ac };
            *tables.get_mut(usize::from(kind & 15))? = codes;
            segment = rest;
        }
        Some(())
    }

    /// Walks the codes of a scan.
    fn scan(&mut self, frame: &mut Frame, segment: &[u8]) -> Result<(), Refused> {
        let damaged = || Refused::from("the picture is damaged: the header of its data");
        let (&count, rest) = segment.split_first().ok_or_else(damaged)?;
        let (rows, rest) = rest.split_at_checked(2 * usize::from(count)).ok_or_else(damaged)?;
        let &[start, end, bits, ..] = rest else { return Err(damaged()) };
        let spectrum = match frame.progressive {
            true => Spectrum { start: start.into(), end: end.into(), refines: bits >> 4 > 0 },
            false => Spectrum { start: 0, end: 63, refines: false },
        };
        let mut parts = Vec::new(); // component, its codes
        for &[id, tables] in rows.as_chunks::<2>().0 {
            let index = frame.components.iter().position(|c| c.id == id).ok_or_else(damaged)?;
            let tables = [tables >> 4, tables & 15].map(usize::from);
            let dc = self.dc.get(tables[0]).ok_or_else(damaged)?;
            let ac = self.ac.get(tables[1]).ok_or_else(damaged)?;
            parts.push((index, [dc, ac]));
        }
        let is_valid = spectrum.start <= spectrum.end && spectrum.end < 64;
        if parts.is_empty() || !is_valid || (spectrum.start > 0 && parts.len() > 1) {
            return Err(damaged());
        }

        let mut data = Data { rest: self.rest, buffer: 0, bits: 0 };
        let [columns, rows] = match parts[..] {
            [(index, _)] => frame.components[index].blocks,
            _ => frame.mcus,
        };
        let mut run = 0; // blocks without further coefficients, of a progressive scan
        for mcu in 0..columns * rows {
            if self.restart > 0 && mcu > 0 && mcu % self.restart == 0 {
                data.restart().ok_or_else(|| missing(mcu, columns * rows))?;
                run = 0;
            }
            let (x, y) = (mcu % columns, mcu / columns);
            for &(index, codes) in &parts {
                let component = &mut frame.components[index];
                let [across, down] = if parts.len() == 1 { [1, 1] } else { component.sampling };
                for (i, j) in (0..down).flat_map(|j| (0..across).map(move |i| (i, j))) {
                    let at = (y * down + j) * component.stride + x * across + i;
                    let block = match component.nonzero.get_mut(at) {
                        Some(nonzero) if spectrum.start > 0 && spectrum.refines => {
                            data.refined(codes[1], spectrum, nonzero, &mut run)
                        }
                        Some(nonzero) if spectrum.start > 0 => {
                            data.first_of_band(codes[1], spectrum, nonzero, &mut run)
                        }
                        Some(_) if spectrum.refines => data.skip(1),
                        Some(_) => data.difference(codes[0]),
                        None => data.block(codes),
                    };
                    block.ok_or_else(|| missing(mcu, columns * rows))?;
                }
            }
        }
        if spectrum.start == 0 {
            parts.iter().for_each(|&(index, _)| frame.components[index].has_data = true);
        }
        self.rest = data.rest;
        Ok(())
    }
}

fn missing(found: usize, expected: usize) -> Refused {
    let share = 100 * found / expected.max(1);
    format!("the picture is damaged: only {share} % of its data is there")
}

/// The bits of a scan.
struct Data<'a> {
    /// What is not yet in the buffer; at its start, at last, the marker behind the scan.
    rest: &'a [u8],
    /// The next bits, the first of them the highest.
    buffer: u64,
    bits: u32,
}

/// Every function is `None` if the data ends or has no meaning.
impl Data<'_> {
    fn fill(&mut self) {
        while self.bits <= 56 {
            let (byte, length) = match *self.rest {
                [0xff, 0, ..] => (0xff, 2),
                [0xff, ..] | [] => return,
                [byte, ..] => (byte, 1),
            };
            self.buffer |= u64::from(byte) << (56 - self.bits);
            self.bits += 8;
            self.rest = &self.rest[length..];
        }
    }

    fn skip(&mut self, count: u32) -> Option<()> {
        self.take(count).map(drop)
    }

    fn take(&mut self, count: u32) -> Option<u64> {
        if self.bits < count {
            self.fill();
        }
        if count == 0 {
            return Some(0);
        }
        self.bits = self.bits.checked_sub(count)?;
        let taken = self.buffer >> (64 - count);
        self.buffer <<= count;
        Some(taken)
    }

    fn symbol(&mut self, codes: &Codes) -> Option<u8> {
        if self.bits < 16 {
            self.fill();
        }
        let &(length, symbol) = codes.get((self.buffer >> 48) as usize).filter(|(length, _)| *length > 0)?;
        self.skip(length.into())?;
        Some(symbol)
    }

    /// The code of a number of bits, and those bits.
    fn difference(&mut self, codes: &Codes) -> Option<()> {
        let bits = self.symbol(codes)?;
        if bits > 16 { None } else { self.skip(bits.into()) }
    }

    /// A block of a sequential picture.
    fn block(&mut self, [dc, ac]: [&Codes; 2]) -> Option<()> {
        self.difference(dc)?;
        let mut k = 1;
        while k < 64 {
            let symbol = self.symbol(ac)?;
            let (zeros, bits) = (usize::from(symbol >> 4), symbol & 15);
            match (zeros, bits) {
                (15, 0) => k += 16,
                (_, 0) => break,
                _ => k += zeros + 1,
            }
            self.skip(bits.into())?;
        }
        Some(())
    }

    /// The first bits of a band of coefficients (G.1.2.2). `run` counts blocks without any.
    fn first_of_band(
        &mut self,
        codes: &Codes,
        band: Spectrum,
        nonzero: &mut u64,
        run: &mut u64,
    ) -> Option<()> {
        if *run > 0 {
            *run -= 1;
            return Some(());
        }
        let mut k = band.start;
        while k <= band.end {
            let symbol = self.symbol(codes)?;
            let (zeros, bits) = (usize::from(symbol >> 4), symbol & 15);
            match (zeros, bits) {
                (15, 0) => k += 16,
                (_, 0) => {
                    *run = (1 << zeros) - 1 + self.take(zeros as u32)?;
                    break;
                }
                _ => {
                    k += zeros;
                    self.skip(bits.into())?;
                    *nonzero |= 1u64.checked_shl(k as u32)?;
                    k += 1;
                }
            }
        }
        Some(())
    }

    /// One more bit of a band (G.1.2.3): for each coefficient that is not 0, and for new ones.
    fn refined(&mut self, codes: &Codes, band: Spectrum, nonzero: &mut u64, run: &mut u64) -> Option<()> {
        let mut k = band.start;
        while *run == 0 && k <= band.end {
            let symbol = self.symbol(codes)?;
            let (mut zeros, bits) = (symbol >> 4, symbol & 15);
            if bits == 0 && zeros < 15 {
                *run = (1 << zeros) + self.take(zeros.into())?;
                break;
            }
            self.skip(bits.into())?;
            while k <= band.end {
                if *nonzero >> k & 1 == 1 {
                    self.skip(1)?;
                } else if zeros == 0 {
                    break;
                } else {
                    zeros -= 1;
                }
                k += 1;
            }
            if bits > 0 && k <= band.end {
                *nonzero |= 1 << k;
            }
            k += 1;
        }
        if *run > 0 {
            let rest = (k..=band.end).filter(|&k| *nonzero >> k & 1 == 1).count();
            (0..rest).try_for_each(|_| self.skip(1))?;
            *run -= 1;
        }
        Some(())
    }

    /// Goes on behind the next restart marker.
    fn restart(&mut self) -> Option<()> {
        (self.buffer, self.bits) = (0, 0);
        let is_marker = |pair: &[u8]| pair[0] == 0xff && !matches!(pair[1], 0 | 0xff);
        let at = self.rest.windows(2).position(is_marker)?;
        let is_restart = matches!(self.rest[at + 1], 0xd0..=0xd7);
        self.rest = &self.rest[at + 2..];
        is_restart.then_some(())
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<usize> {
    let pair = bytes.get(at..)?.first_chunk::<2>()?;
    Some(u16::from_be_bytes(*pair).into())
}

#[cfg(test)]
#[path = "jpeg_tests.rs"]
mod tests;
