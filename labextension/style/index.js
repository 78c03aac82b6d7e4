import '../../fabric_nb/notebook/live/tokens.css';
import './base.css';
