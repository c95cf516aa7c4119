//! The roots of the schema table, one constant a kind.

use super::TypeRef;

pub const BINDING: TypeRef = TypeRef(0);
pub const CONFIG_MAP: TypeRef = TypeRef(1);
pub const CONTROLLER_REVISION: TypeRef = TypeRef(2);
pub const DELETE_OPTIONS: TypeRef = TypeRef(3);
pub const DEPLOYMENT: TypeRef = TypeRef(4);
pub const ENDPOINTS: TypeRef = TypeRef(5);
pub const ENDPOINT_SLICE: TypeRef = TypeRef(6);
pub const EVENT: TypeRef = TypeRef(7);
pub const EVICTION: TypeRef = TypeRef(8);
pub const LEASE: TypeRef = TypeRef(9);
pub const NAMESPACE: TypeRef = TypeRef(10);
pub const NODE: TypeRef = TypeRef(11);
pub const POD: TypeRef = TypeRef(12);
pub const POD_TEMPLATE: TypeRef = TypeRef(13);
pub const PRIORITY_CLASS: TypeRef = TypeRef(14);
pub const REPLICA_SET: TypeRef = TypeRef(15);
pub const RUNTIME_CLASS: TypeRef = TypeRef(16);
pub const SCALE: TypeRef = TypeRef(17);
pub const SECRET: TypeRef = TypeRef(18);
pub const SERVICE: TypeRef = TypeRef(19);
pub const SERVICE_ACCOUNT: TypeRef = TypeRef(20);
pub const TOKEN_REQUEST: TypeRef = TypeRef(21);
