//! Changes of devices, their tokens, requests for approval and setup codes.

use offshoot_actors::ports::{BootstrapRow, DeviceRow, DeviceTokenRow, Op, PairRequestRow, Refused};
use offshoot_actors::types::DeviceId;
use rusqlite::params;
use uuid::Uuid;

use super::{Applied, Apply};
use crate::store::rows::{IdText, json};

impl Apply<'_> {
    /// A change that is about a device; any other does nothing.
    pub(super) fn device_change(&self, op: &Op) -> Applied {
        match op {
            Op::PutDevice(row) => self.put_device(row),
            Op::RemoveDevice { device } => self.remove_device(*device),
            Op::PutDeviceToken(row) => self.put_device_token(row),
            Op::PutPairRequest(row) => self.put_pair_request(row),
            Op::TakePairRequest { request } => self.take_pair_request(*request),
            Op::AddBootstrap(row) => self.add_bootstrap(row),
            Op::TakeBootstrap { code } => self.take_bootstrap(*code),
            _ => Ok(()),
        }
    }

    fn put_device(&self, row: &DeviceRow) -> Applied {
        // An upsert: to replace the row would take its tokens along.
        self.execute(
            "INSERT INTO devices (id, public_key, roles, scopes, client, mode, name, platform, family, remote, \
             created_at, approved_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12) \
             ON CONFLICT (id) DO UPDATE SET public_key = ?2, roles = ?3, scopes = ?4, client = ?5, mode = ?6, \
             name = ?7, platform = ?8, family = ?9, remote = ?10, created_at = ?11, approved_at = ?12",
            params![
                row.id.to_string(),
                row.key.to_string(),
                json(&row.roles)?,
                json(&row.scopes)?,
                row.client.id,
                row.client.mode,
                row.client.name,
                row.client.platform,
                row.client.family,
                row.remote,
                row.created_at.0,
                row.approved_at.0,
            ],
        )?;
        Ok(())
    }

    fn remove_device(&self, device: DeviceId) -> Applied {
        let id = device.to_string();
        if self.execute("DELETE FROM devices WHERE id = ?1", [&id])? == 0 {
            return Err(Refused::no_device(device).into());
        }
        self.execute("DELETE FROM pairing_requests WHERE device_id = ?1", [&id])?;
        Ok(())
    }

    fn put_device_token(&self, row: &DeviceTokenRow) -> Applied {
        let device = row.device.to_string();
        if !self.exists("SELECT 1 FROM devices WHERE id = ?1", [&device])? {
            return Err(Refused::no_device(row.device).into());
        }
        self.execute(
            "INSERT OR REPLACE INTO device_tokens \
             (device_id, role, hash, scopes, created_at, rotated_at, revoked_at) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                device,
                row.role.as_str(),
                row.hash.as_bytes(),
                json(&row.scopes)?,
                row.created_at.0,
                row.rotated_at.map(|at| at.0),
                row.revoked_at.map(|at| at.0),
            ],
        )?;
        Ok(())
    }

    fn put_pair_request(&self, row: &PairRequestRow) -> Applied {
        let (id, device) = (IdText::from(row.id), row.device.to_string());
        let foreign = "SELECT 1 FROM pairing_requests WHERE id = ?1 AND device_id <> ?2";
        if self.exists(foreign, params![id, device])? {
            return Err(Refused::pair_request_exists(row.id).into());
        }
        self.execute(
            "INSERT OR REPLACE INTO pairing_requests (id, device_id, public_key, role, roles, scopes, reason, \
             client, mode, name, platform, family, remote, created_at, expires_at) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
            params![
                id,
                device,
                row.key.to_string(),
                row.role.as_str(),
                json(&row.roles)?,
                json(&row.scopes)?,
                row.reason.as_str(),
                row.client.id,
                row.client.mode,
                row.client.name,
                row.client.platform,
                row.client.family,
                row.remote,
                row.created_at.0,
                row.expires_at.0,
            ],
        )?;
        Ok(())
    }

    fn take_pair_request(&self, request: Uuid) -> Applied {
        if self.execute("DELETE FROM pairing_requests WHERE id = ?1", [IdText::from(request)])? == 0 {
            return Err(Refused::no_pair_request(request).into());
        }
        Ok(())
    }

    fn add_bootstrap(&self, row: &BootstrapRow) -> Applied {
        let added = self.execute(
            "INSERT INTO setup_codes (id, hash, role, scopes, created_at, expires_at) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO NOTHING",
            params![
                IdText::from(row.id),
                row.hash.as_bytes(),
                row.role.as_str(),
                json(&row.scopes)?,
                row.created_at.0,
                row.expires_at.0,
            ],
        )?;
        if added == 0 {
            return Err(Refused::bootstrap_exists(row.id).into());
        }
        Ok(())
    }

    fn take_bootstrap(&self, code: Uuid) -> Applied {
        if self.execute("DELETE FROM setup_codes WHERE id = ?1", [IdText::from(code)])? == 0 {
            return Err(Refused::no_bootstrap(code).into());
        }
        Ok(())
    }
}
