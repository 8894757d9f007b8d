//! Tiles of the log, as C2SP `tlog-tiles` names them: hashes for everyone, entries for who may read the whole log.

use std::collections::BTreeSet;

use gregal_core::{
    access::Action,
    merkle::{Hash, Tile, Tiles},
};
use gregal_policy::Resource;

use super::no_such_tile;
use crate::{Control, Cx, Error, Result};

impl Control {
    /// A tile's hashes, one after the other.
    pub(crate) async fn audit_tile(&self, tile: &Tile) -> Result<Vec<u8>> {
        self.tile_there(tile).await?;
        Ok(self.tile_read(tile).await?.concat())
    }

    /// The entries of a tile of leaves (none: the path named no tile), each behind its length in two bytes. An entry's bytes are its body.
    pub(crate) async fn audit_entries(&self, cx: &Cx, tile: Option<Tile>) -> Result<Vec<u8>> {
        self.authorize(cx, Action::AuditReadAll, &Resource::cloud()).await?;
        let tile = &tile.ok_or_else(no_such_tile)?;
        self.tile_there(tile).await?;
        let places = tile.places();
        let mut bytes = Vec::new();
        for entry in self.store().audit_list(None, places.start.checked_sub(1), u32::from(tile.width)).await? {
            let length = u16::try_from(entry.body.len())
                .map_err(|_| Error::Broken(format!("audit entry {} is too long for a bundle", entry.index)))?;
            bytes.extend_from_slice(&length.to_be_bytes());
            bytes.extend_from_slice(entry.body.as_bytes());
        }
        Ok(bytes)
    }

    async fn tile_there(&self, tile: &Tile) -> Result<()> {
        if tile.is_in(self.store().mark_read().await?) { Ok(()) } else { Err(no_such_tile()) }
    }

    /// Reads tiles into hand, from memory or from the store.
    pub(crate) async fn tiles_read(&self, wanted: BTreeSet<Tile>) -> Result<Tiles> {
        let mut tiles = Tiles::default();
        for tile in wanted {
            let hashes = self.tile_read(&tile).await?;
            tiles.put(tile, hashes);
        }
        Ok(tiles)
    }

    async fn tile_read(&self, tile: &Tile) -> Result<Vec<Hash>> {
        if let Some(known) = self.log().0.lock().await.get(tile) {
            return Ok(known.to_vec());
        }
        let hashes = self.store().audit_hashes(tile.level, tile.places()).await?;
        if hashes.len() != usize::from(tile.width) {
            return Err(Error::Broken(format!("tile {} of the audit log has holes", tile.path())));
        }
        self.log().0.lock().await.put(tile, &hashes);
        Ok(hashes)
    }
}
