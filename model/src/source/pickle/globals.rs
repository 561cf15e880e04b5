//! What a pickle may name: the allow-list.

use crate::source::tensor::StoredType;

/// Something that a pickle may name.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::source) enum Global {
    OrderedDict,
    /// `torch._utils._rebuild_tensor` and its later versions.
    RebuildTensor,
    RebuildParameter,
    Size,
    StorageType(Option<StoredType>),
    DType(StoredType),
    /// What it makes is not looked into.
    Inert,
}

impl Global {
    /// The allow-list.
    pub(super) fn named(module: &str, name: &str) -> Option<Self> {
        use StoredType::{Bf16, Bool, F8E4M3, F8E5M2, F16, F32, F64, I8, I16, I32, I64, U8};
        let storage = |dtype| Some(Self::StorageType(Some(dtype)));
        match (module, name) {
            ("collections", "OrderedDict") => Some(Self::OrderedDict),
            ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2" | "_rebuild_tensor_v3") => {
                Some(Self::RebuildTensor)
            }
            ("torch._utils", "_rebuild_parameter") => Some(Self::RebuildParameter),
            ("torch", "Size") => Some(Self::Size),
            ("torch", "DoubleStorage") => storage(F64),
            ("torch", "FloatStorage") => storage(F32),
            ("torch", "HalfStorage") => storage(F16),
            ("torch", "BFloat16Storage") => storage(Bf16),
            ("torch", "LongStorage") => storage(I64),
            ("torch", "IntStorage") => storage(I32),
            ("torch", "ShortStorage") => storage(I16),
            ("torch", "CharStorage") => storage(I8),
            ("torch", "ByteStorage") => storage(U8),
            ("torch", "BoolStorage") => storage(Bool),
            ("torch" | "torch.storage", "UntypedStorage") => Some(Self::StorageType(None)),
            ("torch", "float8_e4m3fn") => Some(Self::DType(F8E4M3)),
            ("torch", "float8_e5m2") => Some(Self::DType(F8E5M2)),
            ("torch", "float64") => Some(Self::DType(F64)),
            ("torch", "float32") => Some(Self::DType(F32)),
            ("torch", "float16") => Some(Self::DType(F16)),
            ("torch", "bfloat16") => Some(Self::DType(Bf16)),
            // What training frameworks leave beside the weights.
            ("torch", "device")
            | ("torch.nn.modules.container", "ParameterDict")
            | ("pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint")
            | ("numpy.core.multiarray" | "numpy._core.multiarray", "scalar")
            | ("numpy", "dtype")
            | ("_codecs", "encode")
            | ("builtins" | "__builtin__", "set") => Some(Self::Inert),
            _ => None,
        }
    }
}
