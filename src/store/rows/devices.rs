//! Rows of devices, from columns.

use offshoot_actors::ports::{BootstrapRow, DeviceRow, DeviceTokenRow, PairRequestRow};
use offshoot_actors::types::{ClientInfo, PairReason, SecretHash};
use rusqlite::Result;

use super::Columns;

/// What [`Columns::device`] reads.
macro_rules! device_columns {
    () => {
        "id, public_key, roles, scopes, client, mode, name, platform, family, remote, created_at, approved_at"
    };
}

/// What [`Columns::device_token`] reads.
macro_rules! device_token_columns {
    () => {
        "device_id, role, hash, scopes, created_at, rotated_at, revoked_at"
    };
}

/// What [`Columns::pair_request`] reads.
macro_rules! pair_request_columns {
    () => {
        "id, device_id, public_key, role, roles, scopes, reason, client, mode, name, platform, family, remote, \
         created_at, expires_at"
    };
}

/// What [`Columns::bootstrap`] reads.
macro_rules! bootstrap_columns {
    () => {
        "id, hash, role, scopes, created_at, expires_at"
    };
}

pub(in crate::store) use {bootstrap_columns, device_columns, device_token_columns, pair_request_columns};

impl Columns<'_> {
    /// The columns of `device_columns!`.
    pub(in crate::store) fn device(&mut self) -> Result<DeviceRow> {
        Ok(DeviceRow {
            id: self.parsed()?,
            key: self.parsed()?,
            roles: self.json()?,
            scopes: self.json()?,
            client: self.client()?,
            remote: self.value()?,
            created_at: self.time()?,
            approved_at: self.time()?,
        })
    }

    /// The columns of `device_token_columns!`.
    pub(in crate::store) fn device_token(&mut self) -> Result<DeviceTokenRow> {
        Ok(DeviceTokenRow {
            device: self.parsed()?,
            role: self.parsed()?,
            hash: SecretHash::from_bytes(self.value()?),
            scopes: self.json()?,
            created_at: self.time()?,
            rotated_at: self.time_or_null()?,
            revoked_at: self.time_or_null()?,
        })
    }

    /// The columns of `pair_request_columns!`.
    pub(in crate::store) fn pair_request(&mut self) -> Result<PairRequestRow> {
        Ok(PairRequestRow {
            id: self.parsed()?,
            device: self.parsed()?,
            key: self.parsed()?,
            role: self.parsed()?,
            roles: self.json()?,
            scopes: self.json()?,
            reason: self.named(|name| PairReason::ALL.into_iter().find(|reason| reason.as_str() == name))?,
            client: self.client()?,
            remote: self.value()?,
            created_at: self.time()?,
            expires_at: self.time()?,
        })
    }

    /// The columns of `bootstrap_columns!`.
    pub(in crate::store) fn bootstrap(&mut self) -> Result<BootstrapRow> {
        Ok(BootstrapRow {
            id: self.parsed()?,
            hash: SecretHash::from_bytes(self.value()?),
            role: self.parsed()?,
            scopes: self.json()?,
            created_at: self.time()?,
            expires_at: self.time()?,
        })
    }

    fn client(&mut self) -> Result<ClientInfo> {
        Ok(ClientInfo {
            id: self.value()?,
            mode: self.value()?,
            name: self.value()?,
            platform: self.value()?,
            family: self.value()?,
        })
    }
}
