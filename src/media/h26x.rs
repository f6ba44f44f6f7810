//! The little of H.264 and H.265 that must be read here: where a decoder can start, and what caps say of a stream. Pure.
//!
//! Input is what came from outside: everything is read with bounds, and what does not parse is answered with the
//! cautious value (no key frame, nothing known).

use crate::model::VideoCodec;

/// The longest Exp-Golomb code that is read.
const MAX_ZEROS: u32 = 31;

/// True where a decoder can start at this access unit (NAL units with four bytes of length each): an IDR or IRAP
/// picture, or one of I slices only, which cameras with rolling GOPs send instead.
pub(super) fn is_key(codec: VideoCodec, unit: &[u8]) -> bool {
    let mut slices = 0;
    for nal in units(unit, 4).flatten() {
        let Some(&first) = nal.first() else { continue };
        match (codec, first & 0x1f, first >> 1 & 0x3f) {
            (VideoCodec::H264, 5, _) => return true,
            (VideoCodec::H264, 1, _) => {
                let mut bits = Bits::new(nal.get(1..).unwrap_or_default());
                let kind = bits.golomb().and_then(|_first_macroblock| bits.golomb());
                if !matches!(kind, Some(2 | 4 | 7 | 9)) {
                    return false;
                }
                slices += 1;
            }
            (VideoCodec::H264, 2..=4, _) => return false,
            (VideoCodec::H265, _, kind @ 0..=31) => return (16..=23).contains(&kind),
            _ => {}
        }
    }
    slices > 0
}

/// NAL units with `size` bytes of length before each; ends with `None` where a length says more than there is.
pub(super) fn units(packet: &[u8], size: usize) -> impl Iterator<Item = Option<&[u8]>> {
    let mut rest = packet;
    std::iter::from_fn(move || {
        let (length, tail) = rest.split_at_checked(size)?;
        let length = length
            .iter()
            .fold(0usize, |n, b| (n << 8) | usize::from(*b));
        let cut = tail.split_at_checked(length);
        rest = cut.map_or(&[], |(_, tail)| tail);
        Some(cut.map(|(nal, _)| nal))
    })
}

/// Bits of a NAL unit, without its emulation prevention bytes.
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
    zeros: u32,
    left: u32,
}

impl<'a> Bits<'a> {
    fn new(bytes: &'a [u8]) -> Bits<'a> {
        Bits {
            bytes,
            at: 0,
            zeros: 0,
            left: 8,
        }
    }

    fn bit(&mut self) -> Option<u32> {
        if self.left == 0 {
            self.zeros = if self.bytes.get(self.at)? == &0 {
                self.zeros + 1
            } else {
                0
            };
            self.at += 1;
            self.left = 8;
            if self.zeros >= 2 && self.bytes.get(self.at) == Some(&3) {
                self.at += 1;
                self.zeros = 0;
            }
        }
        let byte = u32::from(*self.bytes.get(self.at)?);
        self.left -= 1;
        Some(byte >> self.left & 1)
    }

    /// `ue(v)`.
    fn golomb(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while self.bit()? == 0 {
            zeros += 1;
            if zeros > MAX_ZEROS {
                return None;
            }
        }
        (0..zeros)
            .try_fold(1u32, |n, _| Some(n << 1 | self.bit()?))?
            .checked_sub(1)
    }
}

/// Chroma format and the bit depths of luma and chroma.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Depth {
    pub(super) chroma_format: u8,
    pub(super) luma: u8,
    pub(super) chroma: u8,
}

/// What an H.264 SPS says of it; `None` for the profiles that are always 4:2:0 with eight bits.
pub(super) fn h264_depth(sps: &[u8]) -> Option<Depth> {
    if !matches!(
        sps.get(1)?,
        100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128 | 138..=139 | 134 | 135
    ) {
        return None;
    }
    let mut bits = Bits::new(sps.get(4..)?);
    bits.golomb()?;
    let chroma_format = bits.golomb()?;
    if chroma_format == 3 {
        bits.bit()?;
    }
    let narrow = |v: u32, most: u32| u8::try_from(v).ok().filter(|_| v <= most);
    Some(Depth {
        chroma_format: narrow(chroma_format, 3)?,
        luma: narrow(bits.golomb()?, 6)? + 8,
        chroma: narrow(bits.golomb()?, 6)? + 8,
    })
}

/// The profile in GStreamer's words.
pub(super) fn h264_profile(idc: u8, constraints: u8) -> Option<&'static str> {
    let set = |n: u8| constraints & 0x80 >> n != 0;
    Some(match idc {
        66 if set(1) => "constrained-baseline",
        66 => "baseline",
        77 => "main",
        88 => "extended",
        100 if set(4) && set(5) => "constrained-high",
        100 if set(4) => "progressive-high",
        100 => "high",
        110 if set(3) => "high-10-intra",
        110 => "high-10",
        122 if set(3) => "high-4:2:2-intra",
        122 => "high-4:2:2",
        244 if set(3) => "high-4:4:4-intra",
        244 => "high-4:4:4",
        _ => return None,
    })
}

/// The level in GStreamer's words.
pub(super) fn h264_level(profile: u8, constraints: u8, idc: u8) -> Option<String> {
    match idc {
        9 => Some("1b".into()),
        11 if constraints & 0x10 != 0 && matches!(profile, 66 | 77 | 88) => Some("1b".into()),
        10..=62 => Some(tenths(idc)),
        _ => None,
    }
}

/// Profile, tier and level of an `hvcC`, in GStreamer's words.
pub(super) fn h265_level(record: &[u8]) -> Option<(Option<&'static str>, &'static str, String)> {
    let (general, level) = (*record.get(1)?, *record.get(12)?);
    let profile = match general & 0x1f {
        1 => Some("main"),
        2 => Some("main-10"),
        3 => Some("main-still-picture"),
        _ => None,
    };
    let tier = if general & 0x20 == 0 { "main" } else { "high" };
    Some((profile, tier, tenths(level / 3)))
}

fn tenths(level: u8) -> String {
    match level % 10 {
        0 => (level / 10).to_string(),
        small => format!("{}.{small}", level / 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn unit(nals: &[&[u8]]) -> Vec<u8> {
        nals.iter()
            .flat_map(|n| [&(n.len() as u32).to_be_bytes()[..], n].concat())
            .collect()
    }

    #[test]
    fn key_frames_of_h264() {
        let key = |nals: &[&[u8]]| is_key(VideoCodec::H264, &unit(nals));
        let (delimiter, message) = (&[0x09, 0xf0][..], &[0x06, 5, 1, 0, 0x80][..]);
        assert!(key(&[delimiter, message, &[0x65, 0x88]]));
        // first_mb 0, slice_type 5 (P) and 7 (I).
        let (p, i) = (&[0x41, 0b1001_1000][..], &[0x41, 0b1000_1000][..]);
        assert!(!key(&[delimiter, p]));
        assert!(key(&[i]) && key(&[i, i]));
        assert!(!key(&[i, p]), "a picture that is renewed slice by slice");
        assert!(!key(&[]) && !key(&[delimiter, message]) && !key(&[&[]]));
    }

    #[test]
    fn key_frames_of_h265() {
        let key = |kind: u8| {
            is_key(
                VideoCodec::H265,
                &unit(&[&[35 << 1, 1], &[kind << 1, 1, 0x80]]),
            )
        };
        assert!(key(19) && key(20) && key(21));
        assert!(!key(1) && !key(0));
        assert!(!is_key(VideoCodec::H265, &unit(&[&[39 << 1, 1]])));
    }

    #[test]
    fn profiles_and_levels_are_gstreamers() {
        assert_eq!(h264_profile(66, 0xc0), Some("constrained-baseline"));
        assert_eq!(h264_profile(100, 0), Some("high"));
        assert_eq!(h264_level(100, 0, 40).as_deref(), Some("4"));
        assert_eq!(h264_level(77, 0x10, 11).as_deref(), Some("1b"));
        let mut record = [0; 23];
        (record[1], record[12]) = (1, 93);
        assert_eq!(
            h265_level(&record),
            Some((Some("main"), "main", "3.1".into()))
        );
    }

    #[test]
    fn depth_is_read_from_the_sps() {
        // High, level 3.1: id 0, 4:2:0, eight bits.
        let sps = [0x67, 100, 0, 31, 0b1010_1100];
        let eight = Depth {
            chroma_format: 1,
            luma: 8,
            chroma: 8,
        };
        assert_eq!(h264_depth(&sps), Some(eight));
        // High 10.
        let sps = [0x67, 110, 0, 31, 0b1010_0110, 0b1100_0000];
        let ten = Depth {
            chroma_format: 1,
            luma: 10,
            chroma: 10,
        };
        assert_eq!(h264_depth(&sps), Some(ten));
        assert_eq!(h264_depth(&[0x67, 66, 0, 31, 0xff]), None);
    }

    #[test]
    fn emulation_prevention_is_skipped() {
        let mut bits = Bits::new(&[0, 0, 3, 1, 0x80]);
        assert_eq!((0..24).map(|_| bits.bit().unwrap()).sum::<u32>(), 1);
        assert_eq!(bits.bit(), Some(1));
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            is_key(VideoCodec::H264, &bytes);
            is_key(VideoCodec::H265, &bytes);
            h264_depth(&bytes);
            h265_level(&bytes);
        }
    }
}
