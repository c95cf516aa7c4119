//! Queueing disciplines that slow an interface down, over netlink: thin effects.

use super::bandwidth::Bucket;
use futures_util::StreamExt as _;
use rtnetlink::packet_core::{
    DefaultNla, NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage,
    NetlinkPayload,
};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::tc::{TcAttribute, TcHandle, TcMessage, TcOption};
use rtnetlink::{Error, Handle};

/// Lets no more leave through the interface than the bucket does, in the place of what was there.
pub(super) async fn limit(handle: &Handle, index: u32, bucket: Bucket) -> Result<(), Error> {
    let options = bucket.attributes().into_iter();
    let options = options.map(|(kind, value)| TcOption::Other(DefaultNla::new(kind, value)));
    let index = i32::try_from(index).expect("the kernel numbers interfaces with positive ints");
    let mut message = TcMessage::with_index(index);
    message.header.parent = TcHandle::ROOT;
    message.header.handle = TcHandle { major: 1, minor: 0 };
    message.attributes =
        vec![TcAttribute::Kind("tbf".to_owned()), TcAttribute::Options(options.collect())];
    let mut request = NetlinkMessage::from(RouteNetlinkMessage::NewQueueDiscipline(message));
    request.header.flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
    let mut answers = handle.clone().request(request)?;
    while let Some(answer) = answers.next().await {
        if let NetlinkPayload::Error(error) = answer.payload
            && error.code.is_some()
        {
            return Err(Error::NetlinkError(error));
        }
    }
    Ok(())
}
