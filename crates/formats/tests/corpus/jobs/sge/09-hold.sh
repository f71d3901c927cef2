#!/bin/bash
#$ -N after
#$ -hold_jid prep,4711,stage*
./after
