import { LabIcon } from '@jupyterlab/ui-components';

/** Four nodes and a broker. */
export const fabricIcon = new LabIcon({
  name: 'fabric-nb:fabric',
  svgstr: `<svg xmlns="http://www.w3.org/2000/svg" width="16" viewBox="0 0 24 24">
  <g class="jp-icon3" fill="#616161">
    <path d="M11 6h2v12h-2zM6 11h12v2H6z"/>
    <circle cx="12" cy="4.5" r="2.5"/><circle cx="12" cy="19.5" r="2.5"/>
    <circle cx="4.5" cy="12" r="2.5"/><circle cx="19.5" cy="12" r="2.5"/>
    <circle cx="12" cy="12" r="3.2"/>
  </g>
</svg>`
});

export const pauseIcon = new LabIcon({
  name: 'fabric-nb:pause',
  svgstr: `<svg xmlns="http://www.w3.org/2000/svg" width="16" viewBox="0 0 24 24">
  <path class="jp-icon3" fill="#616161" d="M7 5h4v14H7zM13 5h4v14h-4z"/>
</svg>`
});

export const formIcon = new LabIcon({
  name: 'fabric-nb:form',
  svgstr: `<svg xmlns="http://www.w3.org/2000/svg" width="16" viewBox="0 0 24 24">
  <path class="jp-icon3" fill="#616161" d="M4 4h16v5H4zm2 2v1h12V6zM4 11h16v5H4zm2 2v1h12v-1zM4 18h8v2H4z"/>
</svg>`
});
