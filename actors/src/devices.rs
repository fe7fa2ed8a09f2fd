//! The tables of devices and the changes to them, the same in the store in memory and in the registry that looks
//! devices up.

use std::collections::BTreeSet;

use uuid::Uuid;

use crate::memory::Table;
use crate::ports::{BootstrapRow, DeviceRow, DeviceTokenRow, Op, PairRequestRow, Refused, StoredPairing};
use crate::types::{DeviceId, Role};

/// Devices, tokens, requests for approval and setup codes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Devices {
    devices: Table<DeviceId, DeviceRow>,
    tokens: Table<(DeviceId, Role), DeviceTokenRow>,
    requests: Table<Uuid, PairRequestRow>,
    asking: Table<DeviceId, Uuid>,
    bootstraps: Table<Uuid, BootstrapRow>,
}

/// Calls a method on every table.
macro_rules! each_table {
    ($devices:ident . $method:ident) => {
        $devices.devices.$method();
        $devices.tokens.$method();
        $devices.requests.$method();
        $devices.asking.$method();
        $devices.bootstraps.$method();
    };
}

impl Devices {
    /// The tables with these rows.
    pub(crate) fn of(stored: StoredPairing) -> Self {
        let mut tables = Self::default();
        for row in stored.devices {
            tables.devices.insert(row.id, row);
        }
        for row in stored.tokens {
            tables.tokens.insert((row.device, row.role), row);
        }
        for row in stored.requests {
            tables.asking.insert(row.device, row.id);
            tables.requests.insert(row.id, row);
        }
        for row in stored.bootstraps {
            tables.bootstraps.insert(row.id, row);
        }
        tables.keep();
        tables
    }

    /// All rows.
    pub(crate) fn stored(&self) -> StoredPairing {
        StoredPairing {
            devices: self.devices.iter().map(|(_, row)| row.clone()).collect(),
            tokens: self.tokens.iter().map(|(_, row)| row.clone()).collect(),
            requests: self.requests.iter().map(|(_, row)| row.clone()).collect(),
            bootstraps: self.bootstraps.iter().map(|(_, row)| row.clone()).collect(),
        }
    }

    /// Makes a change, final with [`Devices::keep`]. One that is not about devices does nothing.
    pub(crate) fn apply(&mut self, op: &Op) -> Result<(), Refused> {
        match op {
            Op::PutDevice(row) => {
                self.devices.insert(row.id, (**row).clone());
                Ok(())
            }
            Op::RemoveDevice { device } => self.remove_device(*device),
            Op::PutDeviceToken(row) => {
                if !self.devices.contains(&row.device) {
                    return Err(Refused::no_device(row.device));
                }
                self.tokens.insert((row.device, row.role), (**row).clone());
                Ok(())
            }
            Op::PutPairRequest(row) => {
                if self.requests.get(&row.id).is_some_and(|other| other.device != row.device) {
                    return Err(Refused::pair_request_exists(row.id));
                }
                self.take_request_of(row.device);
                self.asking.insert(row.device, row.id);
                self.requests.insert(row.id, (**row).clone());
                Ok(())
            }
            Op::TakePairRequest { request } => {
                let device = self.requests.get(request).map(|row| row.device);
                self.take_request_of(device.ok_or_else(|| Refused::no_pair_request(*request))?);
                Ok(())
            }
            Op::AddBootstrap(row) => {
                let taken = |(_, other): (_, &BootstrapRow)| other.hash == row.hash;
                if self.bootstraps.contains(&row.id) || self.bootstraps.iter().any(taken) {
                    return Err(Refused::bootstrap_exists(row.id));
                }
                self.bootstraps.insert(row.id, (**row).clone());
                Ok(())
            }
            Op::TakeBootstrap { code } => {
                if self.bootstraps.remove(code) {
                    Ok(())
                } else {
                    Err(Refused::no_bootstrap(*code))
                }
            }
            _ => Ok(()),
        }
    }

    fn remove_device(&mut self, device: DeviceId) -> Result<(), Refused> {
        if !self.devices.remove(&device) {
            return Err(Refused::no_device(device));
        }
        for role in Role::ALL {
            self.tokens.remove(&(device, role));
        }
        self.take_request_of(device);
        Ok(())
    }

    fn take_request_of(&mut self, device: DeviceId) {
        if let Some(request) = self.asking.get(&device).copied() {
            self.asking.remove(&device);
            self.requests.remove(&request);
        }
    }

    /// Makes the changes since the last call final.
    pub(crate) fn keep(&mut self) {
        each_table!(self.keep);
    }

    /// Takes back the changes since the last `keep`.
    pub(crate) fn undo(&mut self) {
        each_table!(self.undo);
    }

    pub(crate) fn device(&self, device: &DeviceId) -> Option<&DeviceRow> {
        self.devices.get(device)
    }

    pub(crate) fn devices(&self) -> impl Iterator<Item = &DeviceRow> {
        self.devices.iter().map(|(_, row)| row)
    }

    pub(crate) fn device_count(&self) -> usize {
        self.devices.len()
    }

    pub(crate) fn token(&self, device: DeviceId, role: Role) -> Option<&DeviceTokenRow> {
        self.tokens.get(&(device, role))
    }

    pub(crate) fn request(&self, request: &Uuid) -> Option<&PairRequestRow> {
        self.requests.get(request)
    }

    pub(crate) fn request_of(&self, device: &DeviceId) -> Option<&PairRequestRow> {
        self.requests.get(self.asking.get(device)?)
    }

    pub(crate) fn requests(&self) -> impl Iterator<Item = &PairRequestRow> {
        self.requests.iter().map(|(_, row)| row)
    }

    pub(crate) fn bootstraps(&self) -> impl Iterator<Item = &BootstrapRow> {
        self.bootstraps.iter().map(|(_, row)| row)
    }
}

/// Roles as people read them: `node,operator`.
pub(crate) fn roles_text(roles: &BTreeSet<Role>) -> String {
    roles.iter().map(|role| role.as_str()).collect::<Vec<_>>().join(",")
}
