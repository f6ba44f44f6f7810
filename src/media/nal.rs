//! What the headers of a packet's NAL units say about decoding. Pure.

use gstreamer as gst;

use super::h26x::units;

/// How the NAL units of a stream are told apart (`avc`, `hvc1`: a length before each).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Nal {
    /// Bytes of the length, 1 to 4.
    length: usize,
    h265: bool,
}

impl Nal {
    /// From the caps' `codec_data` (ISO/IEC 14496-15, 5.3.3.1.2 and 8.3.3.1.2).
    pub(super) fn of(caps: &gst::Caps) -> Option<Nal> {
        let s = caps.structure(0)?;
        let (h265, at) = match s.name().as_str() {
            "video/x-h264" => (false, 4),
            "video/x-h265" => (true, 21),
            _ => return None,
        };
        let data = s.get::<gst::Buffer>("codec_data").ok()?;
        let map = data.map_readable().ok()?;
        let length = usize::from(map.get(at)? & 3) + 1;
        Some(Nal { length, h265 })
    }

    /// Whether nothing from here on needs a picture from before: H.264 IDR (Rec. ITU-T H.264, 7.4.1.2.4), H.265 IDR and
    /// BLA (Rec. ITU-T H.265, 7.4.2.2). False for an open GOP, whose leading pictures look back.
    pub(super) fn begins_anew(self, packet: &[u8]) -> bool {
        units(packet, self.length).flatten().any(|nal| {
            let Some(first) = nal.first() else {
                return false;
            };
            if self.h265 {
                (16..=20).contains(&(first >> 1 & 0x3f))
            } else {
                first & 0x1f == 5
            }
        })
    }

    /// Whether every slice says `nal_ref_idc = 0`: no other picture needs this one, it can be left out before decoding.
    /// Known for H.264 only.
    pub(super) fn nothing_refers_to(self, packet: &[u8]) -> bool {
        if self.h265 {
            return false;
        }
        let mut slices = 0;
        for nal in units(packet, self.length) {
            let Some(nal) = nal else { return false };
            let Some(first) = nal.first() else { continue };
            if (1..=5).contains(&(first & 0x1f)) {
                if first & 0x60 != 0 {
                    return false;
                }
                slices += 1;
            }
        }
        slices > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const H264: Nal = Nal {
        length: 4,
        h265: false,
    };

    const H265: Nal = Nal {
        length: 4,
        h265: true,
    };

    #[test]
    fn only_pictures_that_nothing_refers_to_are_disposable() {
        let nal = H264;
        let unit = |header: u8| [&[0, 0, 0, 2, header, 7][..]].concat();
        assert!(nal.nothing_refers_to(&[unit(0x09), unit(0x01), unit(0x01)].concat()));
        assert!(!nal.nothing_refers_to(&[unit(0x01), unit(0x41)].concat()));
        assert!(!nal.nothing_refers_to(&unit(0x65)));
        assert!(!nal.nothing_refers_to(&[0, 0, 0, 99, 1]));
        assert!(!nal.nothing_refers_to(&[]));
    }

    #[test]
    fn only_pictures_that_cut_all_ties_begin_anew() {
        let unit = |header: u8| [&[0, 0, 0, 3, header, 1, 7][..]].concat();
        assert!(H264.begins_anew(&[unit(0x06), unit(0x65)].concat()));
        // A recovery point: an I slice that is no IDR.
        assert!(!H264.begins_anew(&[unit(0x06), unit(0x41)].concat()));
        assert!(H265.begins_anew(&unit(19 << 1)) && H265.begins_anew(&unit(20 << 1)));
        // CRA: its leading pictures may look back.
        assert!(!H265.begins_anew(&unit(21 << 1)) && !H265.begins_anew(&unit(1 << 1)));
        assert!(!H264.begins_anew(&[0, 0, 0, 99, 0x65]) && !H264.begins_anew(&[]));
    }
}
