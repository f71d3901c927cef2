#!/bin/bash
#$ -pe make -8
make -j $NSLOTS
