// Which page this is: that of somebody who has come by a share link, or the whole.

import { shareWord } from './route';

const word = shareWord(location.hash);
if (word === '') void import('./main');
else void import('./shared');

// Whoever opens a link where another page is open begins anew: nothing of the one is the other's.
addEventListener('hashchange', () => {
  if (shareWord(location.hash) !== word) location.reload();
});
