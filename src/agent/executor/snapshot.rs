//! `snapshot`: the newest key frame as JPEG in the spool.

use serde_json::json;

use super::{Done, Fault, Hands, fault};
use crate::command::kinds::Snapshot;
use crate::db::snapshots::Picture;
use crate::media::picture::{jpeg_of_key_frame, jpeg_size};
use crate::model::{RecordingId, Sha256};
use crate::spool::whole::write_whole;

const QUALITY: u8 = 85;

/// Takes the picture; its row is written with the end of the command.
pub(super) async fn take(hands: &Hands, args: &Snapshot) -> Result<Done, Fault> {
    let still = hands.still(&args.camera_id).await?;
    let (spool, min_free) = (hands.spool.clone(), hands.min_free);
    let (camera, id, width) = (args.camera_id.clone(), args.snapshot_id, args.max_width);
    let work = tokio::task::spawn_blocking(move || {
        let jpeg = jpeg_of_key_frame(&still.packet, &still.caps, width, QUALITY)
            .or_else(|e| fault("picture", e))?;
        let Some((width, height)) = jpeg_size(&jpeg) else {
            return fault("picture", "the encoder made no picture");
        };
        let prepared = spool.check_mount().and_then(|()| spool.prepare(&camera));
        let free = prepared.and_then(|_| spool.space());
        match free {
            Ok(space) if space.free >= min_free => {}
            Ok(space) => return fault("no-space", format!("{} is free", space.free)),
            Err(e) => return fault("storage", e),
        }
        let path = spool.picture_path(&camera, RecordingId(id.0));
        write_whole(&path, &jpeg).or_else(|e| fault("storage", e))?;
        let (sha256, size_bytes) = Sha256::of_reader(&jpeg[..]).or_else(|e| fault("storage", e))?;
        let path = format!("{camera}/{id}.jpg");
        Ok(Picture {
            id,
            camera,
            taken: still.taken,
            width,
            height,
            path,
            size_bytes,
            sha256,
        })
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
