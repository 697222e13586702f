// Opens a console's websocket, and lends the session the browser's timers.

import { consoleUrl, protocols, type Ref, whyNot } from './api';
import type { Socket, World } from './session';

export function socketTo(ref: Ref): World {
  return {
    open(query) {
      const url = new URL(consoleUrl(ref, '/socket', query), document.baseURI);
      url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
      return new WebSocket(url, protocols()) as unknown as Socket;
    },
    why: () => whyNot(ref),
    after(ms, act) {
      const timer = setTimeout(act, ms);
      return () => clearTimeout(timer);
    },
  };
}
