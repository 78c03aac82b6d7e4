import '../../fabric_nb/notebook/live/tokens.css';
import '../../fabric_nb/notebook/table/table.css';
import '../../fabric_nb/notebook/connect/form.css';
import './base.css';
