"""vario"""
