//! Types that are values of their own, and no structs of the schema table. Read twice: by the build
//! script, which looks for what is said of them, and by `registry::schema::descriptions`.

/// Their OpenAPI names.
pub(super) const VALUES: [&str; 6] = [
    "io.k8s.apimachinery.pkg.api.resource.Quantity",
    "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1",
    "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime",
    "io.k8s.apimachinery.pkg.apis.meta.v1.Time",
    "io.k8s.apimachinery.pkg.runtime.RawExtension",
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString",
];
