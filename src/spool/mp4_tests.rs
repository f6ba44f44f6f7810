use std::io::Cursor;

use proptest::prelude::*;

use super::*;

fn bx(kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let mut b = (body.len() as u32 + 8).to_be_bytes().to_vec();
    b.extend(kind);
    b.extend(body);
    b
}

fn words(w: &[u32]) -> Vec<u8> {
    w.iter().flat_map(|w| w.to_be_bytes()).collect()
}

fn moov(fragmented: bool, samples: u32) -> Vec<u8> {
    let stsd = [words(&[0, 1]), bx(b"avc1", &[0; 78])].concat();
    let stbl = [
        bx(b"stsd", &stsd),
        bx(b"stts", &words(&[0, 1, samples, 100])),
        bx(b"stco", &words(&[0, 1, 40])),
    ]
    .concat();
    let hdlr = [words(&[0, 0]), b"vide".to_vec(), vec![0; 13]].concat();
    let mdia = [
        bx(b"mdhd", &words(&[0, 0, 0, 3_000, 0, 0])),
        bx(b"hdlr", &hdlr),
        bx(b"minf", &bx(b"stbl", &stbl)),
    ]
    .concat();
    let trak = [bx(b"tkhd", &words(&[0, 0, 0, 1, 0])), bx(b"mdia", &mdia)].concat();
    let mut body = [bx(b"mvhd", &[0; 100]), bx(b"trak", &trak)].concat();
    if fragmented {
        body.extend(bx(b"mvex", &bx(b"trex", &words(&[0, 1, 1, 100, 0, 0]))));
    }
    bx(b"moov", &body)
}

fn moof(samples: u32) -> Vec<u8> {
    let traf = [
        bx(b"tfhd", &words(&[0, 1])),
        bx(b"trun", &words(&[0, samples])),
    ]
    .concat();
    bx(
        b"moof",
        &[bx(b"mfhd", &words(&[0, 1])), bx(b"traf", &traf)].concat(),
    )
}

fn mdat(n: usize) -> Vec<u8> {
    [bx(b"free", b""), bx(b"mdat", &vec![7; n])].concat()
}

fn start() -> Vec<u8> {
    [
        bx(b"ftyp", b"mp42\0\0\0\0mp42mp41isomiso2"),
        mdat(500),
        moov(true, 30),
    ]
    .concat()
}

fn look(b: &[u8]) -> Survey {
    survey(&mut Cursor::new(b)).unwrap()
}

#[test]
fn the_torn_end_of_a_growing_file_is_left_out() {
    let whole = [start(), mdat(300), moof(30), mdat(400), moof(25)].concat();
    let s = look(&whole);
    assert_eq!(
        (s.stage, s.fragments, s.playable_end),
        (Stage::Growing, 2, whole.len() as u64)
    );
    let video = s.video().unwrap();
    assert_eq!(
        (video.samples, video.codec, video.duration()),
        (85, *b"avc1", Duration::from_nanos(2_833_333_333))
    );
    let torn = [
        &whole[..],
        &[0, 0, 0, 8],
        b"free",
        &[0, 0, 0, 0],
        b"mdat",
        &[1; 99],
    ]
    .concat();
    assert_eq!(look(&torn).playable_end, whole.len() as u64);
    assert_eq!(look(&torn[..whole.len() - 1]).video().unwrap().samples, 60);
}

#[test]
fn the_usual_order_of_index_and_data_is_read_too() {
    let head = [bx(b"ftyp", b"iso5"), moov(true, 0)].concat();
    let whole = [head, moof(10), mdat(100), moof(10)].concat();
    let s = look(&whole);
    assert_eq!((s.fragments, s.video().unwrap().samples), (1, 10));
}

#[test]
fn a_closed_file_is_known_and_whole() {
    let whole = [bx(b"ftyp", b"mp42"), mdat(900), moov(false, 60)].concat();
    let s = look(&whole);
    assert_eq!(
        (s.stage, s.playable_end, s.patches.len()),
        (Stage::Finalised, whole.len() as u64, 0)
    );
    let front = [bx(b"ftyp", b"mp42"), moov(false, 60), mdat(900)].concat();
    assert_eq!(look(&front).playable_end, front.len() as u64);
}

/// Every order in which the steps of closing can reach the disk.
#[test]
fn an_index_hidden_by_an_interrupted_close_is_found_again() {
    let growing = [start(), mdat(300), moof(30)].concat();
    let first = start().len() - moov(true, 30).len();
    for (renamed, widened, tail) in [
        (true, false, 0),
        (false, true, 0),
        (true, true, 0),
        (true, true, 50),
        (true, false, 1 << 20),
    ] {
        let mut f = growing.clone();
        if renamed {
            f[first + 4] = b'h';
        }
        if widened {
            let size = (growing.len() - 40) as u32;
            f[40..44].copy_from_slice(&size.to_be_bytes());
        }
        let end = moov(false, 60);
        f.extend(&end[..end.len().min(tail)]);
        let s = look(&f);
        assert_eq!(s.stage, Stage::Growing, "{renamed} {widened} {tail}");
        assert_eq!(
            (s.playable_end, s.video().unwrap().samples),
            (growing.len() as u64, 60)
        );
        for p in &s.patches {
            f[p.offset as usize..][..p.bytes.len()].copy_from_slice(&p.bytes);
        }
        assert_eq!(f[..growing.len()], growing);
    }
}

#[test]
fn claims_do_not_decide_allocations() {
    for size in [0u32, 1, 2, 7, 8, u32::MAX] {
        for kind in [b"moov", b"moof", b"mdat", b"trak"] {
            let mut f = bx(b"ftyp", b"mp42");
            f.extend(size.to_be_bytes());
            f.extend(kind);
            f.extend(u64::MAX.to_be_bytes());
            assert_eq!(look(&f).stage, Stage::Nothing);
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let s = look(&bytes);
        prop_assert!(s.playable_end <= s.file_len);
        let s = look(&[bx(b"ftyp", b"mp42"), bytes].concat());
        prop_assert!(s.playable_end <= s.file_len);
    }

    #[test]
    fn changed_bytes_are_answered(changes in proptest::collection::vec((0usize..2_000, any::<u8>()), 1..20), cut in 0usize..2_500) {
        let mut f = [start(), mdat(300), moof(30), mdat(400), moof(25)].concat();
        for (at, byte) in changes {
            let n = f.len();
            f[at % n] = byte;
        }
        f.truncate(cut);
        let s = look(&f);
        prop_assert!(s.playable_end <= s.file_len);
        prop_assert!(s.patches.iter().all(|p| p.offset + p.bytes.len() as u64 <= s.file_len));
    }

    #[test]
    fn a_cut_anywhere_loses_only_what_was_torn(cut in 0usize..2_200) {
        let parts = [start(), [mdat(300), moof(30)].concat(), [mdat(400), moof(25)].concat()];
        let whole = parts.concat();
        let cut = cut.min(whole.len());
        let mut end = 0;
        let mut expected = 0;
        for (part, samples) in parts.iter().zip([30u64, 30, 25]) {
            end += part.len();
            if cut >= end { expected += samples; }
        }
        let found = look(&whole[..cut]).video().map_or(0, |v| v.samples);
        prop_assert_eq!(found, expected);
    }
}
