//! What a session does when the machine says that an event begins, goes on or ends.

use super::Session;
use crate::agent::journal::Fact;
use crate::agent::records::{self, Ending, MotionDetail};
use crate::db::events::EventFacts;
use crate::model::{EventId, RecordId};
use crate::motion::Tamper;
use crate::recording::event::Facts;
use crate::time::{Anchor, Pts};

impl Session {
    pub(super) async fn start_event(
        &mut self,
        started_at: Pts,
        clip_from: Pts,
        facts: &Facts,
        anchor: Anchor,
    ) {
        let id = EventId((self.context.ids)());
        self.active = Some((id, started_at));
        let camera = self.config.id.clone();
        let known = self.facts(id, facts);
        let clip = self.recorder.begin_event(id, self.ring.cut(clip_from));
        let started = anchor.mono(started_at);
        let preroll = clip.as_ref().map_or(0.0, |(opening, ..)| {
            started.since(opening.started).as_secs_f64()
        });
        let detail = MotionDetail {
            severity: self.config.motion.severity,
            score: facts.score,
            regions: &facts.regions,
        };
        let title = format!("Motion on {}", self.config.name);
        tracing::info!(camera = %camera, event = %id, score = facts.score, preroll_s = preroll, "motion started");
        let mut told = vec![records::motion_started(
            self.record_id(),
            &camera,
            &title,
            &known,
            detail,
            started,
            preroll,
        )];
        let (clip, committed) = match clip {
            Some((opening, record, committed)) => {
                told.push(record);
                (Some(opening), Some(committed))
            }
            None => (None, None),
        };
        let fact = Fact::EventStarted {
            camera,
            at: started,
            facts: known,
            clip,
        };
        self.context.journal.write_then(fact, told, committed).await;
    }

    pub(super) async fn update_event(&mut self, facts: &Facts, anchor: Anchor) {
        let Some((id, _)) = self.active else { return };
        let known = self.facts(id, facts);
        let detail = MotionDetail {
            severity: self.config.motion.severity,
            score: facts.score,
            regions: &facts.regions,
        };
        let at = anchor.mono(self.newest);
        let record = records::motion_updated(self.record_id(), &self.config.id, &known, detail, at);
        self.context
            .journal
            .write(Fact::EventUpdated { facts: known }, vec![record])
            .await;
    }

    pub(super) async fn end_event(
        &mut self,
        started: Pts,
        ended: Pts,
        reason: &'static str,
        facts: &Facts,
        anchor: Anchor,
    ) {
        let Some((id, _)) = self.active.take() else {
            return;
        };
        let known = self.facts(id, facts);
        let recording = self.recorder.current();
        let (started, ended) = (anchor.mono(started), anchor.mono(ended));
        tracing::info!(
            camera = %self.config.id, event = %id, duration_s = ended.since(started).as_secs_f64(), reason, "motion ended"
        );
        let ending = Ending {
            severity: self.config.motion.severity,
            started,
            ended,
            reason,
            recording,
        };
        let record =
            records::motion_ended(self.record_id(), self.config.id.as_str(), &known, ending);
        self.context
            .journal
            .write(
                Fact::EventEnded {
                    facts: known,
                    at: ended,
                    reason,
                },
                vec![record],
            )
            .await;
        self.recorder.end_event();
        self.look_for_strongest(true);
        let frame = self.strongest.take();
        if self.config.motion.pictures {
            let pictures = &self.context.pictures;
            pictures.make(&self.config.id, id, frame).await;
        }
    }

    /// Takes hold of the strongest frame's packets once they are there; with `now`, of what there is.
    pub(super) fn look_for_strongest(&mut self, now: bool) {
        let stream = self.recorder.current_stream();
        self.strongest.look(self.ring.ring(), stream, now);
    }

    fn facts(&self, id: EventId, facts: &Facts) -> EventFacts {
        let name = |i: &usize| self.config.motion.include.get(*i).map(|z| z.name.clone());
        EventFacts {
            id,
            peak_score: facts.peak_score,
            zones: facts.zones.iter().filter_map(name).collect(),
            rev: facts.rev,
        }
    }

    /// `camera.degraded`: the camera delivers, but no longer sees its scene.
    pub(super) async fn tell_tamper(&mut self, tamper: Tamper) {
        let camera = self.config.id.as_str();
        let detail = match tamper {
            Tamper::Covered => {
                "hardly anything is seen: the camera is covered or the scene is dark"
            }
            Tamper::Defocused => "the picture has lost its focus",
            Tamper::Turned => "the camera looks elsewhere",
        };
        tracing::warn!(camera, tamper = tamper.code(), "the view is wrong");
        let time = &self.context.time;
        let rev = u64::try_from(time.wall().0 / 1000).unwrap_or(0);
        let reason = format!("view_{}", tamper.code());
        let record =
            records::camera_degraded(self.record_id(), camera, &reason, detail, rev, time.mono());
        self.context.journal.write(Fact::Told, vec![record]).await;
    }

    fn record_id(&self) -> RecordId {
        RecordId((self.context.ids)())
    }
}
