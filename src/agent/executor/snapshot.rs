//! `snapshot`: what a camera shows now, as JPEG in the spool.
//!
//! The newest frame, decoded from its key frame on; the key frame itself where the GOP is too long to be decoded at once,
//! or damaged. `taken_at` says when the one that was taken was captured.

use serde_json::json;

use super::{Done, Fault, Hands, fault};
use crate::agent::camera::desk::Still;
use crate::agent::pictures::{New, keep};
use crate::command::kinds::Snapshot;
use crate::media::picture::{I420, PictureError, frame_of, jpeg_of};
use crate::model::PictureKind;
use crate::time::Pts;

/// Takes the picture; its row is written with the end of the command.
pub(super) async fn take(hands: &Hands, args: &Snapshot) -> Result<Done, Fault> {
    let still = hands.still(&args.camera_id).await?;
    let (spool, min_free) = (hands.spool.clone(), hands.min_free);
    let (camera, id, width) = (args.camera_id.clone(), args.snapshot_id, args.max_width);
    let quality = args.quality.clamp(1, 100) as u8;
    let work = tokio::task::spawn_blocking(move || {
        let (picture, at) = newest(&still, width).or_else(|e| fault("picture", e))?;
        let jpeg = jpeg_of(&picture, quality).or_else(|e| fault("picture", e))?;
        let new = New {
            id,
            taken: still.anchor.mono(at),
            event: None,
            kind: PictureKind::Snapshot,
        };
        keep(&spool, min_free, &camera, &new, &jpeg).or_else(|e| fault(e.code, e.detail))
    });
    let picture = match work.await {
        Ok(picture) => picture?,
        Err(e) => return fault("picture", e),
    };
    let result = json!({
        "snapshot_id": picture.id, "width": picture.width, "height": picture.height, "path_name": picture.path,
        "size_bytes": picture.size_bytes, "sha256": picture.sha256.to_string(),
    });
    Ok(Done {
        result: Some(result),
        picture: Some(picture),
        ..Done::default()
    })
}

fn newest(still: &Still, width: u32) -> Result<(I420, Pts), PictureError> {
    let key = still.packets.get(..1).unwrap_or_default();
    let (Some(first), Some(last)) = (key.first(), still.packets.iter().map(|p| p.pts).max()) else {
        return Err(PictureError::NotKey);
    };
    match frame_of(&still.packets, &still.caps, last, width) {
        Err(PictureError::Broken(_) | PictureError::Slow) if still.packets.len() > 1 => {
            frame_of(key, &still.caps, first.pts, width)
        }
        frame => frame,
    }
}
