//! Hardware decoders that are none: one whose driver does not answer, one that hangs, one that shows something else than
//! software, one that is right.

use std::time::Duration;

use gstreamer as gst;
use gstreamer::prelude::*;
use sentrycam::demand::Decoders;
use sentrycam::media::Packet;
use sentrycam::time::Pts;

use crate::fixture::{Recipe, detection, video};

mod hanging {
    //! A decoder that takes everything and puts nothing out.

    use gstreamer as gst;
    use gstreamer::glib;
    use gstreamer::prelude::*;
    use gstreamer::subclass::prelude::*;

    pub struct Imp {
        sink: gst::Pad,
        src: gst::Pad,
    }

    #[glib::object_subclass]
    impl ObjectSubclass for Imp {
        const NAME: &'static str = "SentrycamHanging";
        type Type = Hanging;
        type ParentType = gst::Element;

        fn with_class(class: &Self::Class) -> Self {
            let template = class.pad_template("sink").unwrap();
            let sink = gst::Pad::builder_from_template(&template)
                .chain_function(|_, _, _| Ok(gst::FlowSuccess::Ok))
                .event_function(|_, _, _| true)
                .build();
            let src = gst::Pad::from_template(&class.pad_template("src").unwrap());
            Imp { sink, src }
        }
    }

    impl ObjectImpl for Imp {
        fn constructed(&self) {
            self.parent_constructed();
            self.obj().add_pad(&self.sink).unwrap();
            self.obj().add_pad(&self.src).unwrap();
        }
    }

    impl GstObjectImpl for Imp {}

    impl ElementImpl for Imp {
        fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
            static TEXT: std::sync::OnceLock<gst::subclass::ElementMetadata> =
                std::sync::OnceLock::new();
            let text = || gst::subclass::ElementMetadata::new("Hangs", "Decoder", "Hangs", "tests");
            Some(TEXT.get_or_init(text))
        }

        fn pad_templates() -> &'static [gst::PadTemplate] {
            static ALL: std::sync::OnceLock<Vec<gst::PadTemplate>> = std::sync::OnceLock::new();
            ALL.get_or_init(|| {
                let pad = |name, direction| {
                    let caps = gst::Caps::new_any();
                    gst::PadTemplate::new(name, direction, gst::PadPresence::Always, &caps).unwrap()
                };
                vec![
                    pad("sink", gst::PadDirection::Sink),
                    pad("src", gst::PadDirection::Src),
                ]
            })
        }
    }

    glib::wrapper! {
        pub struct Hanging(ObjectSubclass<Imp>) @extends gst::Element, gst::Object;
    }
}

/// A bin of software's decoder and an element behind it, as a decoder of its own.
macro_rules! decoder_with {
    ($module:ident, $name:literal, $behind:literal) => {
        mod $module {
            use gstreamer as gst;
            use gstreamer::glib;
            use gstreamer::prelude::*;
            use gstreamer::subclass::prelude::*;

            #[derive(Default)]
            pub struct Imp;

            #[glib::object_subclass]
            impl ObjectSubclass for Imp {
                const NAME: &'static str = $name;
                type Type = Decoder;
                type ParentType = gst::Bin;
            }

            impl ObjectImpl for Imp {
                fn constructed(&self) {
                    self.parent_constructed();
                    let inner = concat!("avdec_h264 max-threads=1 ! ", $behind);
                    super::fill(self.obj().upcast_ref(), inner);
                }
            }

            impl GstObjectImpl for Imp {}
            impl ElementImpl for Imp {}
            impl BinImpl for Imp {}

            glib::wrapper! {
                pub struct Decoder(ObjectSubclass<Imp>) @extends gst::Bin, gst::Element, gst::Object;
            }
        }
    };
}

/// Puts these elements into a bin and shows their two ends.
fn fill(bin: &gst::Bin, elements: &str) {
    let inner = gst::parse::bin_from_description(elements, true).unwrap();
    bin.add(&inner).unwrap();
    for pad in ["sink", "src"] {
        let target = inner.static_pad(pad).unwrap();
        let ghost = gst::GhostPad::builder_with_target(&target).unwrap();
        bin.add_pad(&ghost.name(pad).build()).unwrap();
    }
}

mod wedged {
    //! A decoder whose start blocks until the test is over, as a driver that waits for its firmware.

    use std::sync::{Condvar, Mutex};
    use std::time::Duration;

    use gstreamer as gst;
    use gstreamer::glib;
    use gstreamer::prelude::*;
    use gstreamer::subclass::prelude::*;

    pub static OVER: (Mutex<bool>, Condvar) = (Mutex::new(false), Condvar::new());

    #[derive(Default)]
    pub struct Imp;

    #[glib::object_subclass]
    impl ObjectSubclass for Imp {
        const NAME: &'static str = "SentrycamWedged";
        type Type = Wedged;
        type ParentType = gst::Bin;
    }

    impl ObjectImpl for Imp {
        fn constructed(&self) {
            self.parent_constructed();
            super::fill(self.obj().upcast_ref(), "identity");
        }
    }

    impl GstObjectImpl for Imp {}

    impl ElementImpl for Imp {
        fn change_state(
            &self,
            transition: gst::StateChange,
        ) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
            if transition == gst::StateChange::ReadyToPaused {
                let over = OVER.0.lock().unwrap();
                let most = Duration::from_secs(60);
                let waiting = |over: &mut bool| !*over;
                drop(OVER.1.wait_timeout_while(over, most, waiting).unwrap());
            }
            self.parent_change_state(transition)
        }
    }

    impl BinImpl for Imp {}

    glib::wrapper! {
        pub struct Wedged(ObjectSubclass<Imp>) @extends gst::Bin, gst::Element, gst::Object;
    }
}

decoder_with!(brighter, "SentrycamBrighter", "videobalance brightness=0.3");
decoder_with!(alike, "SentrycamAlike", "identity");

/// Sees 5 s of video by a hardware decoder of this name, a little slower than the camera: positions of the pictures, and
/// the decoders that were used.
async fn watch(hardware: &str) -> (Vec<Packet>, Vec<Pts>, Vec<Option<String>>) {
    let (video, packets) = video(Recipe::default());
    let mut detection = detection(&video);
    detection.decode_with(Decoders::new("avdec_h264", vec![hardware.into()]));
    let mut seen: Vec<Pts> = Vec::new();
    let mut beat = tokio::time::interval(Duration::from_millis(50));
    let mut names = Vec::new();
    let mut coming = packets.iter();
    for _ in 0..600 {
        tokio::select! {
            picture = detection.next() => if let Some(picture) = picture {
                seen.push(picture.pts);
                detection.observe(&picture);
            },
            _ = beat.tick() => {
                if let Some(packet) = coming.next() {
                    detection.push(packet);
                }
                detection.tick();
            }
        }
        let name = detection.decoding().map(|d| d.decoder);
        if names.last() != Some(&name) {
            names.push(name);
        }
        if seen.len() > 15 {
            break;
        }
    }
    (packets, seen, names)
}

fn register(name: &str, kind: gst::glib::Type) {
    gst::init().unwrap();
    gst::Element::register(None, name, gst::Rank::NONE, kind).unwrap();
}

fn assert_nothing_lost(packets: &[Packet], seen: &[Pts]) {
    assert_eq!(seen.first(), Some(&packets[0].pts));
    assert!(seen.is_sorted() && seen.len() > 15, "{seen:?}");
}

fn assert_software_took_over(
    hardware: &str,
    (packets, seen, names): &(Vec<Packet>, Vec<Pts>, Vec<Option<String>>),
) {
    assert!(names.contains(&Some(hardware.to_owned())), "{names:?}");
    assert_eq!(names.last(), Some(&Some("avdec_h264".to_owned())));
    assert_nothing_lost(packets, seen);
}

#[tokio::test]
async fn a_decoder_whose_driver_does_not_answer_holds_nothing_up_and_software_decodes() {
    register("v4l2wedged", wedged::Wedged::static_type());
    let (packets, seen, names) = watch("v4l2wedged").await;
    *wedged::OVER.0.lock().unwrap() = true;
    wedged::OVER.1.notify_all();
    assert_eq!(names, [None, Some("avdec_h264".to_owned())]);
    assert_nothing_lost(&packets, &seen);
}

#[tokio::test]
async fn a_decoder_that_hangs_is_left_and_what_it_owed_is_decoded_by_software() {
    register("v4l2hanging", hanging::Hanging::static_type());
    assert_software_took_over("v4l2hanging", &watch("v4l2hanging").await);
}

#[tokio::test]
async fn a_decoder_whose_first_key_frame_differs_from_softwares_is_left_before_anything_is_judged()
{
    register("v4l2brighter", brighter::Decoder::static_type());
    assert_software_took_over("v4l2brighter", &watch("v4l2brighter").await);
}

#[tokio::test]
async fn a_decoder_that_shows_what_software_shows_is_kept_and_nothing_is_lost() {
    register("v4l2alike", alike::Decoder::static_type());
    let (packets, seen, names) = watch("v4l2alike").await;
    assert!(names.contains(&Some("v4l2alike".to_owned())), "{names:?}");
    assert!(!names.contains(&Some("avdec_h264".to_owned())), "{names:?}");
    assert_nothing_lost(&packets, &seen);
}
