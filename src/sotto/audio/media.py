"""Which kinds of media file are read, by ffmpeg's names of its demuxers, and which are refused.

Invariant: no kind is read that opens what its text names; no I/O.
"""

from __future__ import annotations

FORMATS = (
    "aac,ac3,ac4,act,adp,ads,adx,aea,afc,aiff,alp,amr,amrnb,amrwb,apac,apc,ape,apm,aptx,aptx_hd,"
    "argo_asf,asf,asf_o,ast,au,avi,avr,bfstm,bink,binka,boa,bonk,brstm,caf,codec2,daud,derf,"
    "dfpwm,dhav,dsf,dss,dts,dtshd,dv,ea,eac3,epaf,film_cpk,flac,flv,fsb,fwse,g722,g723_1,g728,"
    "g729,genh,gsm,gxf,hca,hcom,iamf,iff,ilbc,ircam,iss,ivr,kux,kvag,laf,lc3,live_flv,loas,lxf,"
    "matroska,mca,mlp,mmf,mov,mp3,mpc,mpc8,mpeg,mpegts,mpegtsraw,msf,mtaf,mtv,musx,mxf,"
    "nistsphere,nsp,nsv,nut,nuv,ogg,oma,osq,pmp,pva,pvf,qcp,qoa,rka,rm,rpl,rsd,rso,s337m,sbc,"
    "sdr2,sds,sdx,shn,siff,sln,smjpeg,smk,sox,spdif,svag,svs,swf,tak,thp,truehd,tta,ty,vag,"
    "vividas,vivo,voc,vpk,vqf,w64,wady,wav,wavarc,wsaud,wsd,wsvqa,wtv,wv,wve,xa,xmv,xvag,xwma"
)
"""Demuxers of sound and film that keep everything in one file.

Playlists (hls, dash, concat, sdp), image sequences, devices and filter graphs, which open what
their text names, are left out, and so is all that has no sound: subtitles, pictures, raw data.
"""
STEADY_CLOCKS = {"flv", "matroska,webm", "mov,mp4,m4a,3gp,3g2,mj2"}
SET_CLOCKS = {"live_flv", "mpeg", "mpegts", "ogg"}
"""Demuxers that read a time with each packet, or page of packets; the others count.

Left out is asf, whose times are those of larger packets. What the second kind claims to last says
nothing, since recordings that are laid end to end are such files too.
"""
PLAYLISTS = {
    b"#EXTM3U": "an HLS or M3U playlist",
    b"ffconcat": "a concat script",
    b"v=0": "an SDP session description",
    b"[playlist]": "a PLS playlist",
    b"<asx": "an ASX playlist",
    b"<smil": "a SMIL playlist",
    b"<?xml": "an XML document, such as a DASH manifest",
    b"<MPD": "a DASH manifest",
}
"""What a text begins with that lists other files; said by name, as ffmpeg only says "invalid"."""


def playlist(head: bytes) -> str | None:
    """What the file is that begins like this, if it lists other files."""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return next((kind for start, kind in PLAYLISTS.items() if text.startswith(start.lower())), None)
